"""What the demo starts and talks to: the service, the simulated traffic, a client of its own. Shows nothing itself."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
READY_WITHIN_SECS = 60
STOP_WITHIN_SECS = 15
# Five times what real traffic has, so that a minute shows something.
FRAUD_PERCENT = "5"
SCRAPE_EVERY_SECS = 0.5
SHOWN_ALERTS = 30
# The demo's own client: often enough for a p99 of a minute, seldom enough to be no load.
PAYMENTS_A_SECOND = 10
# Each pays once in a quarter of an hour, so that nobody's day becomes remarkable.
PAYERS = 10_000
# No proxy stands between this machine and itself.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


# What the demo shows is the service as it is shipped, whatever is set up for another one in this folder or this shell.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("VERDICT__")}


class Failure(Exception):
    """What went wrong and what to do, for the person who started the demo."""


def stamp(moment):
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def call(url, body=None):
    """The status and the text of the answer; the status is 0 when there is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with OPENER.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)


def payment(transaction_id, user_id, amount, moment, **more):
    fixed = {"currency": "USD", "merchant_id": "demo-shop", "timestamp": stamp(moment)}
    return {"transaction_id": transaction_id, "user_id": user_id, "amount": amount} | fixed | more


def stop(child):
    """Asks a child to end, by its own process id, and insists when it does not."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_WITHIN_SECS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Backend:
    """Everything it stores is in a folder that `close` removes; every process that it starts `close` stops."""

    def __init__(self, binary, port, rate, figures):
        self.binary, self.port, self.rate, self.figures = os.path.abspath(binary), port, rate, figures
        self.url = f"http://127.0.0.1:{port}"
        self.children, self.threads = [], []
        self.ending = threading.Event()
        self.service = self.traffic = None
        self.on_answer = lambda answer: None
        try:
            (ROOT / ".cache").mkdir(exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="demo-", dir=ROOT / ".cache"))
        except OSError as error:
            raise Failure(f"no folder for the demo's data: {error}") from error

    def start(self, command, **streams):
        # In a session of its own, so that Ctrl-C reaches this script alone, which stops its children in order.
        try:
            child = subprocess.Popen(
                command, cwd=ROOT, env=ENVIRON, stdin=subprocess.DEVNULL, start_new_session=True, **streams
            )
        except OSError as error:
            why = error.strerror or error
            raise Failure(f"cannot run {self.binary}: {why}; `make demo` builds it") from error
        self.children.append(child)
        return child

    def log(self, name):
        """The last lines of a child's log."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])

    def serve(self):
        """Starts the service and waits until it is ready."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except (OSError, OverflowError) as error:
                if not 0 < self.port < 65536:
                    raise Failure(f"port: expected 1 to 65535, found {self.port}") from error
                hint = f"stop the program that has it, or: make demo DEMO_PORT={self.port + 1}"
                raise Failure(f"port {self.port} cannot be had ({error.strerror}); {hint}") from error
        command = [self.binary, "serve", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--config", os.devnull, "--data-dir", str(self.folder / "data")]
        with (self.folder / "service.log").open("wb") as log:
            self.service = self.start(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_WITHIN_SECS
        while call(f"{self.url}/readyz")[0] != 200:
            self.check()
            if time.monotonic() > deadline:
                raise Failure(f"the service is not ready after {READY_WITHIN_SECS} s:\n{self.log('service')}")
            time.sleep(0.05)

    def stories(self):
        """Three payments with a story: (what happens, the answer) each."""
        now = datetime.now(timezone.utc)

        def pay(user, amount, **more):
            body = payment(f"demo-{user}-{amount}", user, amount, now, **more)
            return json.loads(self.expect("/v1/decide", body))

        yield "A coffee:", pay("demo-ann", "4.50")
        yield "The same customer spends more than 5,000 USD in a day:", pay("demo-ann", "5200.00")
        login = {"login_id": "demo-login", "user_id": "demo-bob", "timestamp": stamp(now - timedelta(minutes=20))}
        self.expect("/v1/logins", login | {"latitude": 40.71, "longitude": -74.01})
        story = "A login in New York, and 20 minutes later a purchase in London:"
        yield story, pay("demo-bob", "80.00", latitude=51.51, longitude=-0.13)

    def expect(self, path, body=None):
        status, text = call(self.url + path, body)
        if not 200 <= status < 300:
            self.check()
            raise Failure(f"{path} answered {status or 'nothing'}: {text}")
        return text

    def simulate(self):
        """Starts the traffic, the client, and the reading of figures."""
        command = [self.binary, "simulate", "--target", self.url, "--rate", str(self.rate), "--fraud", FRAUD_PERCENT]
        with (self.folder / "simulate.log").open("wb") as log:
            self.traffic = self.start(command, stdout=subprocess.PIPE, stderr=log)
        for work in (self.read_answers, self.pay_at_the_till, self.watch):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self.threads.append(thread)

    def check(self):
        """Raises a Failure when something that should run has ended."""
        for name, what, child in (("service", "service", self.service), ("simulate", "traffic", self.traffic)):
            if child and child.poll() is not None:
                code = child.returncode
                how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
                raise Failure(f"the {what} {how}; its last words:\n{self.log(name) or '(none)'}")

    def read_answers(self):
        for line in self.traffic.stdout:
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            self.figures.add_answer(answer, line.decode(errors="replace").strip())
            self.on_answer(answer)

    def pay_at_the_till(self):
        """One customer after the other pays over one connection, and their wait is measured."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        number, due = 0, time.monotonic()
        while not self.ending.wait(max(0, due - time.monotonic())):
            due = max(due + 1 / PAYMENTS_A_SECOND, time.monotonic())
            amount = f"{5 + number * 7 % 40}.{number * 37 % 100:02d}"
            body = payment(f"till-{number}", f"till-{number % PAYERS}", amount, datetime.now(timezone.utc))
            number += 1
            data, began = json.dumps(body).encode(), time.monotonic()
            try:
                connection.request("POST", "/v1/decide", data, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                # It connects again by itself; `check` says if the service has died.
                connection.close()
                continue
            if answer.status == 200:
                now = time.monotonic()
                self.figures.add_round_trip(now, (now - began) * 1000)
            else:
                self.figures.note(f"/v1/decide answered {answer.status}: {text.decode(errors='replace')}")
        connection.close()

    def watch(self):
        while not self.ending.wait(SCRAPE_EVERY_SECS):
            self.scrape()

    def scrape(self):
        """Reads /metrics and the latest alerts into the figures; False when the service does not answer."""
        status, text = call(f"{self.url}/metrics")
        if status != 200:
            return False
        self.figures.add_metrics(time.monotonic(), text)
        status, text = call(f"{self.url}/v1/alerts?limit={SHOWN_ALERTS}")
        if status == 200:
            self.figures.add_alerts(json.loads(text)["alerts"])
        return status == 200

    def halt(self):
        """Ends the traffic and the threads; the service still answers."""
        self.ending.set()
        if self.traffic:
            stop(self.traffic)
        for thread in self.threads:
            thread.join(STOP_WITHIN_SECS)

    def close(self):
        self.ending.set()
        for child in reversed(self.children):
            stop(child)
        shutil.rmtree(self.folder, ignore_errors=True)
