"""Certificates for one server on this machine, by an authority that is made for it and thrown away with it."""

import subprocess

from . import Trouble

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
DAYS = "30"


def openssl(folder, *words):
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Trouble(f"openssl {words[0]} ended with {done.returncode}:\n{done.stderr}")


def make(folder):
    """Makes `ca.pem`, for clients, and `broker.pem`, the key and certificate of 127.0.0.1 and localhost."""
    folder.mkdir(mode=0o700, exist_ok=True)
    openssl(folder, "req", "-x509", *NEW_KEY, "-days", DAYS, "-subj", "/CN=Verdict local authority",
            "-keyout", "ca.key", "-out", "ca.pem")
    openssl(folder, "req", *NEW_KEY, "-subj", "/CN=localhost", "-keyout", "own.key", "-out", "own.csr")
    (folder / "own.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl(folder, "x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", DAYS, "-extfile", "own.ext", "-out", "own.pem")
    (folder / "broker.pem").write_text((folder / "own.key").read_text() + (folder / "own.pem").read_text())
