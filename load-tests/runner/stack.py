"""What the parts on real servers share: the broker, the service beside it, the generator, and figures out of `/metrics`."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import machine
from .servers import Server

sys.path.insert(0, str(machine.ROOT / "tests" / "scripts"))

from servers.kafka import Kafka  # noqa: E402
from servers.topics import topics  # noqa: E402

PARTITIONS = 12
SOURCE_TOPICS = ("transactions", "logins", "fraud-labels")
LAG = "verdict_source_lag_records"
DRAIN_LIMIT_S = 900
# A broker's JVM compiles what it runs often for this long under load; that is not what is measured.
BROKER_WARMUP_S = 30


def broker(scratch):
    """A broker in a folder of its own, which ends with this process."""
    return Kafka(Path(tempfile.mkdtemp(prefix="kafka-", dir=scratch)), {"partitions": PARTITIONS, "lasting": True}, tied=True)


def settings(address):
    """How anything of Verdict finds the broker."""
    return {"VERDICT__KAFKA__BOOTSTRAP_SERVERS": address, "VERDICT__DATA__PARTITIONS": str(PARTITIONS), "VERDICT__KAFKA__HEARTBEAT_SECS": "0"}


def service(scratch, address, data=None, more=None):
    """The service, not pinned: librdkafka has threads of its own."""
    environment = settings(address) | {"VERDICT__HTTP__WORKERS": "1", "VERDICT__ACTORS__SHARDS": "1", "RUST_LOG": "warn"} | (more or {})
    data = data or tempfile.mkdtemp(prefix="data-", dir=scratch)
    command = [machine.RELEASE / "verdict", "serve", "--config", os.devnull, "--data-dir", data]
    return Server(command, f"0-{os.cpu_count() - 1}", scratch / "service.log", environment, "/readyz")


def generate(options, server, run, rate=None, seconds=None):
    """One run of the generator; `run` keeps its ids apart from those of every other."""
    command = [
        str(machine.RELEASE / "generate"), server.address, "--connections", str(options.connections),
        "--seconds", str(seconds or 2 * options.seconds), "--warmup", str(options.warmup), "--users", str(options.users),
        "--zipf", str(options.zipf), "--median", str(options.median), "--seed", str(run), "--run", str(run),
    ]  # fmt: skip
    if rate is not None:
        command += ["--rate", f"{rate:.0f}", "--timers"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def unsound(name, counts):
    """What is wrong with answers that should all be first and durable."""
    if counts["durable"] != counts["answered"] or counts["broken"] or counts["duplicates"] or not counts["answered"]:
        return [f"{name}: expected durable first answers only, found {counts}"]
    return []


def fill(options, address):
    """Fills the topic of transactions while nobody consumes."""
    command = [machine.RELEASE / "verdict", "simulate", "--config", os.devnull, "--target", "kafka"]
    command += ["--transactions", options.drained, "--logins", 0, "--labels", 0, "--users", options.users, "--seed", 7]
    environment = machine.environment() | settings(address)
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True, cwd=machine.ROOT)
    return json.loads(done.stdout)["sent"]


def empty_but_sources(kafka):
    """Topics as before the first start, the filled ones left as they are."""
    wanted = [topic for topic in topics(PARTITIONS) if topic[0] not in SOURCE_TOPICS]
    kafka.delete([name for name, _, _ in wanted])
    kafka.create(wanted)


def until_drained(server):
    """Waits until all of the topics is consumed and every projection has read what came of it; lags are a second old at most."""
    began = time.monotonic()
    while not is_drained(server.text("/metrics")):
        if server.process.poll() is not None:
            raise TimeoutError(f"expected topics drained, found the service ended; see {server.log}")
        if time.monotonic() - began > DRAIN_LIMIT_S:
            raise TimeoutError(f"expected topics drained within {DRAIN_LIMIT_S} s, found {labelled(server.text('/metrics'), LAG)}")
        time.sleep(0.2)


def is_drained(metrics):
    """Whether the lag of each source partition is known and none, and that of each projection as well."""
    sources = labelled(metrics, LAG)
    behind = labelled(metrics, "verdict_projection_lag_records")
    return len(sources) == len(SOURCE_TOPICS) * PARTITIONS and not any(sources.values()) and not any(behind.values())


def labelled(metrics, name):
    """The values of a metric by its labels."""
    return {labels: float(value) for labels, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", metrics, re.MULTILINE)}


def plain(metrics, name):
    """The value of a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


class Watch:
    """What the machine does from now on, beside the broker and what is measured."""

    def __init__(self, kafka):
        self.pid = kafka.known["pid"]
        self.before = self.books()

    def books(self):
        return time.monotonic(), machine.busy_s(), machine.process_s(self.pid)

    def foreign_share(self, ours_s):
        """Other processes' share of the machine; `ours_s` is the CPU time of what is measured."""
        wall, busy, broker_s = (late - early for early, late in zip(self.before, self.books()))
        return max(0.0, busy - broker_s - ours_s) / (wall * os.cpu_count())
