#!/usr/bin/env python3
"""Puts the ONNX Runtime library where `verdict` looks for it: .cache/onnxruntime/VERSION/libonnxruntime.so.

The library comes out of the project's own Python wheel, fetched once through pip, from wherever pip is configured to
look. Only the pinned bytes are accepted. With --check nothing is fetched: exit 0 if the library is there and right.
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Later official builds call out by default; this one has no telemetry. The service is tested with it.
VERSION = "1.28.0"
# SHA-256 of libonnxruntime.so in the wheel for each kind of machine.
LIBRARY_SHA256 = {
    "x86_64": "aa4079d18f4ea7a5f3a94d80cd4bbe0f2740436626622d64d793803a20381083",
    "aarch64": "23a37c2994bc273e1d59a4f49af6cba5bf1cfbc29f04907ec27df375aba50a7d",
}
# The library is the same in the wheels of every Python; this one is asked for whatever Python runs here.
WHEEL_PYTHON = "312"

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / ".cache" / "onnxruntime" / VERSION / "libonnxruntime.so"


def fail(message):
    sys.exit(f"error: {message}")


def is_right(path, sha256):
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def download_wheel(machine, folder):
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in (27, 28)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [f"--python-version={WHEEL_PYTHON}", "--implementation=cp", f"--abi=cp{WHEEL_PYTHON}", *platforms]
    command += [f"--dest={folder}", f"onnxruntime=={VERSION}"]
    if subprocess.run(command, check=False).returncode != 0:
        has_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
        if has_pip.returncode != 0:
            fail("this Python has no pip; install it with: apt-get install python3-pip")
        fail(
            f"pip could not download onnxruntime {VERSION}; check the network and pip's index, or put the library at "
            f"{LIBRARY.relative_to(ROOT)} by hand"
        )
    return next(Path(folder).glob("onnxruntime-*.whl"))


def main():
    machine = platform.machine()
    sha256 = LIBRARY_SHA256.get(machine)
    if platform.system() != "Linux" or sha256 is None:
        fail(
            f"no ONNX Runtime is pinned for {platform.system()} on {machine}; get version {VERSION} for it and name the "
            "library in ORT_DYLIB_PATH"
        )
    if is_right(LIBRARY, sha256):
        return
    if "--check" in sys.argv[1:]:
        sys.exit(1)
    print(f"fetching ONNX Runtime {VERSION} for {machine}", file=sys.stderr)
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=LIBRARY.parent) as folder:
        with zipfile.ZipFile(download_wheel(machine, folder)) as wheel:
            library = wheel.read(f"onnxruntime/capi/libonnxruntime.so.{VERSION}")
        found = hashlib.sha256(library).hexdigest()
        if found != sha256:
            fail(f"the library in the wheel is not the pinned one: expected SHA-256 {sha256}, found {found}")
        unpacked = Path(folder) / LIBRARY.name
        unpacked.write_bytes(library)
        unpacked.chmod(0o755)
        # Whoever looks sees the whole library or none.
        os.replace(unpacked, LIBRARY)


if __name__ == "__main__":
    main()
