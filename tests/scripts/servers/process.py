"""One server as a process in a folder: started and waited for, killed, paused, stopped, always by its own process id.

A process is known by its id and the time of its start, so that nothing else is ever signalled that came to have the id.
"""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import Trouble

# Longest wait for a start: a busy machine is slow.
READY_SECS = 120
# Longest wait for an orderly stop, before it is killed.
STOP_SECS = 30
POLL_SECS = 0.02
# Below the ports that Linux gives to outgoing connections: a server finds its port free again when it restarts.
PORTS = range(20000, 32000)
# Attempts to start: another process may take a free port before the server does.
PORT_ATTEMPTS = 5
# Lines of its log that are shown when a server does not start.
LOG_TAIL = 40
PR_SET_PDEATHSIG = 1


def free_port():
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Trouble(f"no free port between {PORTS.start} and {PORTS.stop}")


def stat(pid):
    """Parent, state and start of a process, or None when it is gone; one that only waits to be collected is.

    A killed process waits to be collected before its last thread, and with it its sockets, has gone.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    threads = int(fields[17])
    return None if fields[0] in "ZX" and threads <= 1 else (int(fields[1]), fields[0], int(fields[19]))


def descendants(pid):
    children = {}
    for folder in Path("/proc").iterdir():
        found = stat(folder.name) if folder.name.isdigit() else None
        if found:
            children.setdefault(found[0], []).append(int(folder.name))
    found, look = [], [pid]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def die_with_parent():
    """For a child before it becomes a server: it is killed when the process that started it ends, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, secs):
    deadline = time.monotonic() + secs
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECS)
    return True


class Server:
    """What every server shares; a kind says how it is made, run and asked whether it is ready.

    `tied`: it dies with this process. `user`: who runs it, where that is not who runs this.
    """

    name = "server"
    ports = ("port",)
    user = None
    stop_signal = signal.SIGTERM

    def __init__(self, folder, known=None, tied=False, abandoned=lambda: False):
        self.folder = Path(folder)
        self.known = known or {}
        self.tied = tied
        self.abandoned = abandoned

    # What a kind says.

    def prepare(self):
        """Makes what the server needs in its folder. Also called when it restarts: keeps what is there."""

    def command(self):
        raise NotImplementedError

    def is_ready(self):
        raise NotImplementedError

    def details(self):
        """What a client must know."""
        return {name: self.known[name] for name in self.ports}

    # What all do.

    @property
    def log(self):
        return self.folder / f"{self.name}.log"

    def port(self, name="port"):
        return self.known[name]

    def is_running(self):
        pid = self.known.get("pid")
        if pid is None:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # Collects it if it was ours and has ended.
        found = stat(pid)
        return found is not None and found[2] == self.known["started"]

    def start(self):
        """Starts it and waits until it is ready. A server that ran before keeps its ports and its data."""
        fresh = any(name not in self.known for name in self.ports)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            if fresh:
                self.known |= {name: free_port() for name in self.ports}
            self.folder.mkdir(parents=True, exist_ok=True)
            self.prepare()
            self.spawn()
            if wait_until(lambda: self.abandoned() or not self.is_running() or self.is_ready(), READY_SECS):
                if self.abandoned():
                    raise Trouble(f"nobody waits for {self.name} any more")
                if self.is_running():
                    return
            self.kill()
            log = self.log.read_text(errors="replace")
            if not (fresh and "in use" in log) or attempt == PORT_ATTEMPTS:
                tail = "\n".join(log.splitlines()[-LOG_TAIL:])
                raise Trouble(f"{self.name} did not start; the end of {self.log}:\n{tail}")

    def spawn(self):
        with self.log.open("w") as log:
            child = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is not for it.
                preexec_fn=die_with_parent if self.tied else None,
                **self.identity(),
            )
        child.returncode = 0  # Collected by `is_running`, not by subprocess.
        self.known |= {"pid": child.pid, "started": (stat(child.pid) or (0, "", 0))[2]}

    def identity(self):
        return {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}

    def signal_all(self, number):
        """To it and all that it started. It is held first, so that it starts nothing meanwhile."""
        if not self.is_running():
            return []
        os.kill(self.known["pid"], signal.SIGSTOP)
        everyone = [self.known["pid"], *descendants(self.known["pid"])]
        for pid in everyone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return everyone

    def kill(self):
        everyone = self.signal_all(signal.SIGKILL)
        if not wait_until(lambda: not self.is_running() and not any(map(stat, everyone)), STOP_SECS):
            raise Trouble(f"{self.name}, process {self.known['pid']}, does not end when it is killed")

    def pause(self):
        self.signal_all(signal.SIGSTOP)

    def resume(self):
        self.signal_all(signal.SIGCONT)

    def stop(self):
        """In order; killed when that takes too long."""
        if self.is_running():
            os.kill(self.known["pid"], self.stop_signal)
            wait_until(lambda: not self.is_running(), STOP_SECS)
        self.kill()

    def remove(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
