#!/usr/bin/env python3
"""The demo: a service on this machine, three payments with a story, then simulated traffic with fraud in it.

Stops at Ctrl-C, or after --seconds, with a summary. Everything it stores is in a folder that it removes.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_SECS = 60
STOP_WITHIN_SECS = 15
SECONDS_BETWEEN_APPROVALS = 0.5
# Five times what real traffic has, so that a minute shows something.
FRAUD_PERCENT = "5"
# No proxy stands between this machine and itself.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
COLOURS = {"approve": "32", "challenge": "33", "review": "33", "block": "31"}


def fail(message):
    sys.exit(f"error: {message}")


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
    except OSError as error:
        return 0, str(error)


def painted(decision):
    text = f"{decision:<9}"
    return f"\033[{COLOURS.get(decision, '0')}m{text}\033[0m" if sys.stdout.isatty() else text


def show(answer):
    reasons = "; ".join(reason["message"] for reason in answer.get("reasons", []))
    score = answer.get("score")
    known = "score   -  " if score is None else f"score {score:.3f}"
    took = f"{answer.get('latency_us', 0) / 1000:6.2f} ms"
    print(f"{painted(answer['decision'])} {answer['user_id']:<12} {known} {took}  {reasons}", flush=True)


class Demo:
    def __init__(self, args):
        self.args = args
        self.url = f"http://127.0.0.1:{args.port}"
        (ROOT / ".cache").mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="demo-", dir=ROOT / ".cache"))
        self.log = self.folder / "service.log"
        self.children = []
        self.counts = Counter()
        self.next_approval = 0.0
        self.refused = None

    def start(self, command, **streams):
        # In a session of its own, so that Ctrl-C reaches this script alone, which stops its children in order.
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True, **streams)
        self.children.append(child)
        return child

    def serve(self):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.args.port))
            except OSError:
                fail(f"port {self.args.port} is taken; stop the program that has it, or: make demo DEMO_PORT=8081")
        command = [self.args.binary, "serve", "--listen", f"127.0.0.1:{self.args.port}"]
        command += ["--data-dir", str(self.folder / "data")]
        with self.log.open("wb") as log:
            service = self.start(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_WITHIN_SECS
        while call(f"{self.url}/readyz")[0] != 200:
            if service.poll() is not None:
                fail(f"the service ended with {service.returncode}:\n{self.log.read_text(errors='replace')}")
            if time.monotonic() > deadline:
                fail(f"not ready after {READY_WITHIN_SECS} s:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.05)
        print(f"The service listens on {self.url}\n")

    def tell_stories(self):
        now = datetime.now(timezone.utc)

        def pay(story, user, amount, moment, **more):
            print(story)
            payment = {"transaction_id": f"demo-{user}-{amount}", "user_id": user, "amount": amount, "currency": "USD"}
            payment |= {"merchant_id": "demo-shop", "timestamp": stamp(moment), **more}
            status, text = call(f"{self.url}/v1/decide", payment)
            if status == 200:
                show(json.loads(text))
            else:
                fail(f"/v1/decide answered {status}: {text}")

        pay("A coffee:", "demo-ann", "4.50", now)
        pay("The same customer spends more than 5,000 USD in a day:", "demo-ann", "5200.00", now)
        login = {"login_id": "demo-login", "user_id": "demo-bob", "timestamp": stamp(now - timedelta(minutes=20))}
        status, text = call(f"{self.url}/v1/logins", login | {"latitude": 40.71, "longitude": -74.01})
        if status not in (200, 201, 202, 204):
            fail(f"/v1/logins answered {status}: {text}")
        story = "A login in New York, and 20 minutes later a purchase in London:"
        pay(story, "demo-bob", "80.00", now, latitude=51.51, longitude=-0.13)

    def show_commands(self):
        print(
            f"""
Try it from another terminal:
  curl -s {self.url}/v1/decide -H 'content-type: application/json' -d '{{"transaction_id": "t-1", "user_id": "u-1",
    "amount": "6000.00", "currency": "USD", "merchant_id": "m-1", "timestamp": "'$(date -u +%FT%TZ)'"}}'
  curl -s {self.url}/v1/users/demo-ann/profile
  curl -s {self.url}/metrics | grep ^verdict_decisions
"""
        )

    def simulate(self):
        until = f", for {self.args.seconds:g} s" if self.args.seconds else "; Ctrl-C stops"
        print(f"Simulated customers and a few criminals, {self.args.rate:g} events a second{until}.")
        print("Shown: every alert, and an approval now and then.", flush=True)
        command = [self.args.binary, "simulate", "--target", self.url, "--rate", str(self.args.rate)]
        command += ["--fraud", FRAUD_PERCENT]
        with (self.folder / "simulate.log").open("wb") as log:
            traffic = self.start(command, stdout=subprocess.PIPE, stderr=log)
        reader = threading.Thread(target=self.read_answers, args=(traffic.stdout,), daemon=True)
        reader.start()
        try:
            traffic.wait(self.args.seconds or None)
            log = (self.folder / "simulate.log").read_text(errors="replace")
            fail(f"the traffic ended with {traffic.returncode}:\n{log}")
        except subprocess.TimeoutExpired:
            pass
        finally:
            stop(traffic)
            reader.join(STOP_WITHIN_SECS)

    def read_answers(self, lines):
        for line in lines:
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if "decision" in answer:
                self.counts[answer["decision"]] += 1
                self.show_some(answer)
            elif "login_id" in answer or answer.get("accepted"):
                self.counts["other events"] += 1
            else:
                self.counts["refused"] += 1
                self.refused = self.refused or line.decode(errors="replace").strip()

    def show_some(self, answer):
        """Everything but approvals, and of those as many as a person can read."""
        now = time.monotonic()
        if answer["decision"] == "approve":
            if now < self.next_approval:
                return
            self.next_approval = now + SECONDS_BETWEEN_APPROVALS
        show(answer)

    def summarise(self):
        status, text = call(f"{self.url}/metrics")
        if status != 200:
            fail(f"/metrics answered {status}: {text}")
        totals = Counter()
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name.startswith("verdict_"):
                totals[name.partition("{")[0]] += float(value)
        decided, alerts = int(totals["verdict_decisions_total"]), int(totals["verdict_alerts_total"])
        shares = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        print(f"\n{decided} decisions, {alerts} alerts (of the traffic: {shares or 'nothing'})")
        if self.refused:
            print(f"the first refusal: {self.refused}")
        if decided == 0:
            fail("the service decided nothing")

    def close(self):
        for child in reversed(self.children):
            stop(child)
        shutil.rmtree(self.folder, ignore_errors=True)


def stop(child):
    """Asks a child to end, by its own process id, and insists when it does not."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_WITHIN_SECS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def interrupt(_signal, _frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, help="the verdict binary")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--rate", type=float, default=200, help="events a second")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long; 0 runs until Ctrl-C")
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    signal.signal(signal.SIGTERM, interrupt)
    demo = Demo(args)
    try:
        demo.serve()
        demo.tell_stories()
        demo.show_commands()
        try:
            demo.simulate()
        except KeyboardInterrupt:
            pass
        demo.summarise()
    except KeyboardInterrupt:
        print()
    finally:
        demo.close()


if __name__ == "__main__":
    main()
