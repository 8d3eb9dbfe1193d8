"""`make up` and `make down`: all three servers in a folder, running until they are stopped, their data kept."""

import contextlib
import fcntl
import json
import os
import tempfile
from pathlib import Path

from .attend import KINDS
from .topics import PARTITIONS

# Tables and keys of verdict.toml, and where the servers' details have their values.
CONFIG = [("kafka", "bootstrap_servers"), ("postgres", "url"), ("redis", "url")]
# An empty database gets its tables from the service.
ALSO = {"postgres": "migrate = true\n"}


@contextlib.contextmanager
def alone(folder):
    """One `up` or `down` at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_private(path, text):
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def place(folder, kind):
    """Where a server keeps its files: in the folder. PostgreSQL, which is never root, may not reach one that is in
    root's home; then a link leads to where it can."""
    own = folder / kind
    reachable = all(parent.stat().st_mode & 0o001 for parent in own.parents)
    if kind == "postgres" and os.geteuid() == 0 and not reachable and not own.exists():
        own.unlink(missing_ok=True)  # A link that leads nowhere any more.
        own.symlink_to(tempfile.mkdtemp(prefix="verdict-postgres-", dir="/var/tmp"))
    return own.resolve()


def servers(folder):
    state = folder / "servers.json"
    known = json.loads(state.read_text()) if state.exists() else {}
    options = {"partitions": PARTITIONS}
    return {kind: make(place(folder, kind), options, known.get(kind)) for kind, make in KINDS.items()}


def up(folder):
    with alone(folder):
        found = servers(folder)
        try:
            for server in found.values():
                if not server.is_running():
                    server.start()
        finally:
            # Also of a start that failed: what runs can be stopped.
            write_private(folder / "servers.json", json.dumps({kind: server.known for kind, server in found.items()}))
        lines = [f"[{kind}]\n{key} = {json.dumps(found[kind].details()[key])}\n{ALSO.get(kind, '')}" for kind, key in CONFIG]
        write_private(folder / "verdict.toml", "# Written by `make up`.\n" + "\n".join(lines))
        for kind, key in CONFIG:
            print(f"{kind:<10}{found[kind].details()[key]}")
        print(f"{'settings':<10}{Path(os.path.relpath(folder)) / 'verdict.toml'}")


def down(folder):
    if not (folder / "servers.json").exists():
        return
    with alone(folder):
        for server in servers(folder).values():
            if server.is_running():
                server.stop()
                print(f"{server.name} has stopped")
