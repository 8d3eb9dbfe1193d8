"""PostgreSQL: a cluster of its own, on 127.0.0.1, with a password; as the user `postgres` where root asks for it."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess

from . import Trouble, provision
from .process import Server

NAME = "verdict"


class Postgres(Server):
    """User and database `verdict`. Over TCP alone: a socket's path may be longer than Unix allows."""

    name = "postgres"
    stop_signal = signal.SIGINT  # without waiting for its clients

    def __init__(self, folder, _options, known=None, **common):
        super().__init__(folder, known, **common)
        self.user = "postgres" if os.geteuid() == 0 else None

    @property
    def data(self):
        return self.folder / "data"

    def binary(self, name):
        found = provision.postgres_binary(name)
        if not found:
            raise Trouble("PostgreSQL is not installed here; `make setup-servers` does that")
        return found

    def prepare(self):
        if self.data.exists():
            return
        self.known["password"] = secrets.token_hex(16)
        made, password = self.folder / "made", self.folder / "password"
        shutil.rmtree(made, ignore_errors=True)
        password.touch(mode=0o600)
        password.write_text(self.known["password"])
        if self.user:
            owner = pwd.getpwnam(self.user)
            for path in (self.folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self.run("initdb", "--pgdata", made, "--username", NAME, "--pwfile", password, "--auth=scram-sha-256",
                 "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
        password.unlink()
        self.run("postgres", "--single", "-D", made, "postgres", said=f"CREATE DATABASE {NAME}\n")
        made.rename(self.data)  # Whole or not at all.

    def run(self, binary, *words, said=""):
        command = [self.binary(binary), *map(str, words)]
        done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, cwd=self.folder,
                              **self.identity())
        if done.returncode != 0:
            raise Trouble(f"{binary} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def command(self):
        settings = {"port": self.port(), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        if self.tied:
            settings["fsync"] = "off"  # A kill loses nothing by it, only a power cut does; its folder goes anyway.
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [self.binary("postgres"), "-D", str(self.data), *words]

    def is_ready(self):
        # A server that still recovers takes connections and refuses sessions: only one that answers a query is ready.
        return self.query("SELECT 1").returncode == 0

    def query(self, statement):
        return subprocess.run(["psql", "--no-psqlrc", "--quiet", self.url(), "--command", statement],
                              capture_output=True, text=True, check=False)

    def create_database(self, name):
        done = self.query(f'CREATE DATABASE "{name}"')
        if done.returncode != 0:
            raise Trouble(f"PostgreSQL does not make the database {name}: {done.stderr}")
        return {"url": self.url(name)}

    def url(self, database=NAME):
        return f"postgres://{NAME}:{self.known['password']}@127.0.0.1:{self.port()}/{database}"

    def details(self):
        return {"url": self.url()}
