"""Runs one server for a test: in a temporary folder, steered by lines of JSON on stdin, gone when stdin ends.

Each line, and the start, is answered with one line of JSON: `{"ok": ...}` or `{"error": TEXT}`. The server ends with this
process however it ends, and this process with the test that holds its stdin.
"""

import json
import select
import signal
import sys
import tempfile
from pathlib import Path

from . import Trouble
from .kafka import Kafka
from .postgres import Postgres
from .redis import Redis
from .topics import topics

KINDS = {"kafka": Kafka, "postgres": Postgres, "redis": Redis}


def say(answer):
    print(json.dumps(answer), flush=True)


def nobody_is_there():
    """Whether the other end of stdin was closed, also while nothing reads it."""
    poll = select.poll()
    poll.register(sys.stdin, select.POLLHUP)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def obey(server, order):
    match order["do"]:
        case "kill" | "pause" | "resume" | "start" as name:
            getattr(server, name)()
        case "topics":
            server.create(topics(order["partitions"], order["prefix"]))
        case "topic":
            server.create([(order["name"], order["partitions"], order["settings"])])
        case "database":
            return server.create_database(order["name"])
        case unknown:
            raise Trouble(f"expected an order, found {unknown}")
    return server.known | server.details()


def answer(step):
    try:
        say({"ok": step()})
    except (Trouble, OSError) as trouble:
        say({"error": str(trouble)})


def attend(kind, options):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the test; this ends after it.
    folder = Path(tempfile.mkdtemp(prefix=f"verdict-{kind}-"))
    folder.chmod(0o711)  # A server that runs as another user has to reach its own folder in it.
    server = KINDS[kind](folder, options, tied=True, abandoned=nobody_is_there)
    try:
        answer(lambda: server.start() or server.known | server.details() | {"folder": str(folder)})
        for line in sys.stdin:
            answer(lambda order=json.loads(line): obey(server, order))
    finally:
        server.remove()
