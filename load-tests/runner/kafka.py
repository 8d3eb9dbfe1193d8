"""With the journal on Kafka: `/v1/decide`, closed loop and at half of that, and how fast topics filled beforehand are drained.

One broker on this machine, started for this, which shares both cores with the service and the generator: the figures are of
all three together.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import machine
from .servers import Server

sys.path.insert(0, str(machine.ROOT / "tests" / "scripts"))

from servers.kafka import Kafka  # noqa: E402

PARTITIONS = 12
# A broker's JVM compiles what it runs often for this long under load; that is not what is measured.
BROKER_WARMUP_S = 30
MOST_P50_MS = 5.0
MOST_P99_MS = 25.0
SOURCES = "verdict_source_lag_records{"
DRAIN_LIMIT_S = 600


def run(options, scratch):
    """Gives (results, markdown, faults)."""
    folder = Path(tempfile.mkdtemp(prefix="kafka-", dir=scratch))
    broker = Kafka(folder, {"partitions": PARTITIONS, "lasting": True}, tied=True)
    try:
        broker.start()
        address = broker.details()["bootstrap_servers"]
        results = {"decide": decide(options, scratch, address), "drain": drain(options, scratch, address)}
    finally:
        broker.stop()
        broker.remove()
    return results, markdown(results), faults(results)


def service(scratch, address):
    """The service, not pinned: librdkafka has threads of its own."""
    environment = settings(address) | {"VERDICT__HTTP__WORKERS": "1", "VERDICT__ACTORS__SHARDS": "1", "RUST_LOG": "warn"}
    data = tempfile.mkdtemp(prefix="data-", dir=scratch)
    command = [machine.RELEASE / "verdict", "serve", "--config", os.devnull, "--data-dir", data]
    return Server(command, f"0-{os.cpu_count() - 1}", scratch / "kafka.log", environment, "/readyz")


def settings(address):
    """How anything of Verdict finds the broker."""
    return {"VERDICT__KAFKA__BOOTSTRAP_SERVERS": address, "VERDICT__DATA__PARTITIONS": str(PARTITIONS)}


def decide(options, scratch, address):
    """The peak, and the latency at half of it, from when a request was due."""
    with service(scratch, address) as server:
        generate(options, server, seed=3, seconds=BROKER_WARMUP_S)
        peak = generate(options, server, seed=1)
        print(f"peak: {peak['decisions_per_s']:,.0f}/s", flush=True)
        half = generate(options, server, seed=2, rate=peak["decisions_per_s"] / 2)
    return {"peak": peak, "half": half}


def generate(options, server, seed, rate=None, seconds=None):
    """One run of the generator."""
    command = [
        str(machine.RELEASE / "generate"), server.address, "--connections", str(options.connections),
        "--seconds", str(seconds or 2 * options.seconds), "--warmup", str(options.warmup), "--users", str(options.users),
        "--zipf", str(options.zipf), "--median", str(options.median), "--seed", str(seed), "--run", str(seed),
    ]  # fmt: skip
    if rate is not None:
        command += ["--rate", f"{rate:.0f}", "--timers"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def drain(options, scratch, address):
    """Fills the topics while nobody consumes, then counts from when the service is ready until all of it is consumed; lags are
    a second old at most."""
    command = [machine.RELEASE / "verdict", "simulate", "--config", os.devnull, "--target", "kafka"]
    command += ["--count", str(options.drained), "--users", str(options.users), "--seed", "7"]
    environment = machine.environment() | settings(address)
    subprocess.run(list(map(str, command)), env=environment, capture_output=True, check=True, cwd=machine.ROOT)
    started = time.monotonic()
    with service(scratch, address) as server:
        ready = time.monotonic()
        while lag(server) != 0:
            if time.monotonic() - ready > DRAIN_LIMIT_S:
                raise TimeoutError(f"expected topics drained within {DRAIN_LIMIT_S} s, found a lag of {lag(server)}")
            time.sleep(0.2)
        ended, cpu_s = time.monotonic(), server.cpu_s()
    return {"events": options.drained, "seconds": ended - ready, "start_s": ready - started, "cpu_s": cpu_s}


def lag(server):
    """Records of all source partitions that are not consumed; `None` while it is not known of each."""
    found = [float(line.rsplit(" ", 1)[1]) for line in server.text("/metrics").splitlines() if line.startswith(SOURCES)]
    return sum(found) if len(found) == 3 * PARTITIONS else None


def faults(results):
    """What makes the figures worthless."""
    found = []
    for name, run in results["decide"].items():
        counts = run["counts"]
        if counts["durable"] != counts["answered"] or counts["broken"] or counts["duplicates"]:
            found.append(f"{name}: expected durable first answers only, found {counts}")
    return found


def markdown(results):
    """A section for REPORT.md."""
    peak, half, drained = results["decide"]["peak"], results["decide"]["half"], results["drain"]
    p50, p99 = half["latency"]["p50_us"] / 1e3, half["latency"]["p99_us"] / 1e3
    verdict = lambda holds: "met" if holds else "MISSED"
    return "\n".join([
        f"- `/v1/decide`, durable on Kafka, closed loop: {peak['decisions_per_s']:,.0f}/s, p50 {peak['latency']['p50_us'] / 1e3:.2f} ms, p99 {peak['latency']['p99_us'] / 1e3:.2f} ms",
        f"- at half of that, {half['decisions_per_s']:,.0f}/s, open loop: p50 **{p50:.2f} ms** (under {MOST_P50_MS:.0f}) — {verdict(p50 < MOST_P50_MS)}, p99 **{p99:.2f} ms** (under {MOST_P99_MS:.0f}) — {verdict(p99 < MOST_P99_MS)}",
        f"- {drained['events']:,} events of topics filled beforehand: {drained['events'] / drained['seconds']:,.0f}/s once ready, {drained['events'] / drained['cpu_s']:,.0f} events per CPU second of the process, its start of {drained['start_s']:.1f} s included",
    ])  # fmt: skip
