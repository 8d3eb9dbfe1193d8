"""Redis: on 127.0.0.1, with an append-only file, so that a kill loses nothing that was answered."""

import contextlib
import socket

from . import Trouble, provision
from .process import Server


class Redis(Server):
    name = "redis"

    def __init__(self, folder, _options, known=None, **common):
        super().__init__(folder, known, **common)

    def command(self):
        binary = provision.redis_binary()
        if not binary:
            raise Trouble("Redis is not installed here; `make setup-servers` does that")
        settings = {"port": self.port(), "bind": "127.0.0.1", "dir": self.folder, "appendonly": "yes", "save": ""}
        return [binary, *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]

    def is_ready(self):
        # While it reads its file it answers `-LOADING`.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port()), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64) == b"+PONG\r\n"
        return False

    def details(self):
        return {"url": f"redis://127.0.0.1:{self.port()}/"}
