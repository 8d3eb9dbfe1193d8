"""Starts a server pinned to a core, waits until it is ready, counts its CPU time, and stops it by its own process id."""

import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from . import machine

READY_S = 120
STOP_S = 30


class ServerError(Exception):
    """A server that did not start, or did not stop."""


def free_address():
    """An address of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


class Server:
    """A running server; a context manager."""

    def __init__(self, command, core, log, environment=None, ready_path=None):
        self.log = log
        self.address = free_address()
        self.ready_path = ready_path
        command = ["taskset", "-c", str(core), *map(str, command), "--listen", self.address]
        with open(log, "wb") as sink:
            self.process = subprocess.Popen(command, cwd=machine.ROOT, env=machine.environment() | (environment or {}), stdout=sink, stderr=sink)

    def __enter__(self):
        try:
            until = time.monotonic() + READY_S
            while not self.ready():
                if self.process.poll() is not None:
                    raise ServerError(f"expected a running server, found exit code {self.process.returncode}; see {self.log}")
                if time.monotonic() > until:
                    raise ServerError(f"expected a ready server within {READY_S} s; see {self.log}")
                time.sleep(0.05)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def ready(self):
        """Whether it takes requests."""
        host, port = self.address.split(":")
        if self.ready_path is None:
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0
        try:
            with urllib.request.urlopen(f"http://{self.address}{self.ready_path}", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def cpu_s(self):
        """CPU seconds so far."""
        return machine.process_s(self.process.pid)

    def text(self, path):
        """The body of a GET, empty on any failure."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return ""

    def kill(self):
        """Ends it without warning (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Asks it to end, waits, and kills it only if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise ServerError(f"expected the server to stop within {STOP_S} s of SIGTERM, killed it; see {self.log}") from None
