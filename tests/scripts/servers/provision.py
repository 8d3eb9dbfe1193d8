"""Installs what the servers and the tests need: Debian packages as root, Kafka's jars through Maven into .cache/. Starts no server."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import Trouble

ROOT = Path(__file__).resolve().parents[3]
KAFKA_VERSION = "4.3.1"
KAFKA_HOME = ROOT / ".cache" / f"kafka-{KAFKA_VERSION}"
KAFKA_LIBS = KAFKA_HOME / "libs"
# SHA-256 over the names and hashes of all jars, as `libs_hash` puts them together.
KAFKA_LIBS_SHA256 = "0edf25af69fbdc0117d1abd7e7f3774a9b1feb0bae9ea76667041600b47e0cad"
# The oldest Java that runs Kafka 4.
JAVA_OLDEST = 17

# Said to packages that want to start their server: forbidden by policy.
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_SAVED = POLICY.with_name("policy-rc.d.before-verdict")
NO_SERVICES = "#!/bin/sh\n# Verdict's set-up: servers are installed, not started. Gone when it is done.\nexit 101\n"


def java():
    """The first Java that is new enough, or None."""
    found = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"] if "JAVA_HOME" in os.environ else []
    found += [Path(path) for path in [shutil.which("java")] if path]
    found += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    return next((path for path in found if path.is_file() and java_version(path) >= JAVA_OLDEST), None)


def java_version(path):
    release = path.resolve().parents[1] / "release"
    said = release.read_text() if release.is_file() else subprocess.run(
        [path, "-version"], capture_output=True, text=True, check=False
    ).stderr
    version = re.search(r'version "?=?"?(\d+)|JAVA_VERSION="(\d+)', said, re.IGNORECASE)
    return int(version[1] or version[2]) if version else 0


def postgres_binary(name):
    """A program of the newest PostgreSQL: Debian keeps the server's outside PATH. None where there is none."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(kept[-1]) if kept else shutil.which(name)


def redis_binary():
    return shutil.which("redis-server")


def missing_packages():
    wanted = {
        "default-jre-headless": java(),
        "postgresql": postgres_binary("initdb") and postgres_binary("postgres") and shutil.which("psql"),
        "redis-server": redis_binary(),
        "kcat": shutil.which("kcat"),  # the tests' own client of Kafka
        "openssl": shutil.which("openssl"),  # certificates for Kafka with TLS
        "prometheus": shutil.which("promtool"),  # checks the alert rules; the server itself never runs
        "maven": KAFKA_LIBS.is_dir() or shutil.which("mvn"),  # only to fetch Kafka
    }
    return [package for package, found in wanted.items() if not found]


@contextlib.contextmanager
def no_services_started():
    """Keeps packages from starting servers while they are installed; then the machine's own policy holds again."""
    if POLICY.exists() and POLICY.read_text() != NO_SERVICES and not POLICY_SAVED.exists():
        POLICY.rename(POLICY_SAVED)
    POLICY.write_text(NO_SERVICES)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        restore_policy()


def restore_policy():
    """Also after a set-up that was killed: nobody else writes this text."""
    if POLICY_SAVED.exists():
        POLICY_SAVED.rename(POLICY)
    elif POLICY.exists() and POLICY.read_text() == NO_SERVICES:
        POLICY.unlink()


def install(packages):
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        command = f"sudo apt-get install --no-install-recommends {' '.join(packages)}"
        raise Trouble(f"missing: {' '.join(packages)}; install with: {command}")
    print(f"installing {' '.join(packages)}", file=sys.stderr)
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with no_services_started():
        for words in [["update"], ["install", "--yes", "--no-install-recommends", *packages]]:
            command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *words]
            done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise Trouble(f"apt-get {' '.join(words)} ended with {done.returncode}:\n{done.stdout}")


def libs_hash(folder):
    lines = [f"{jar.name} {hashlib.sha256(jar.read_bytes()).hexdigest()}\n" for jar in sorted(folder.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def fetch_kafka():
    print(f"fetching Kafka {KAFKA_VERSION}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=KAFKA_HOME) as folder:
        # A copy of the pom: Maven makes files beside it.
        shutil.copy(Path(__file__).with_name("kafka-pom.xml"), Path(folder) / "pom.xml")
        libs = Path(folder) / "libs"
        command = ["mvn", "-q", "-B", "-C", f"-Dkafka.version={KAFKA_VERSION}"]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={libs}", "-DincludeScope=runtime"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Trouble(f"Maven could not fetch Kafka; check the network and Maven's settings:\n{done.stdout}")
        found = libs_hash(libs)
        if found != KAFKA_LIBS_SHA256:
            raise Trouble(f"Kafka's jars are not the pinned ones: expected {KAFKA_LIBS_SHA256}, found {found}")
        libs.rename(KAFKA_LIBS)  # Whoever looks sees all jars or none.


@contextlib.contextmanager
def alone():
    """One set-up at a time in this checkout."""
    KAFKA_HOME.mkdir(parents=True, exist_ok=True)
    with (KAFKA_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def setup():
    with alone():
        install_what_lacks()
        if not KAFKA_LIBS.is_dir():
            fetch_kafka()


def install_what_lacks():
    if os.geteuid() == 0:
        restore_policy()
    packages = missing_packages()
    if packages:
        install(packages)
        left = missing_packages()
        if left:
            raise Trouble(f"installed, but what they should bring is not there: {' '.join(left)}")
