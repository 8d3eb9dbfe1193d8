"""Topics filled beforehand: the service against a baseline of one thread without actors or journal, and against the same with
a record of each decision that is written and read back, in alternate rounds over the same records; and how fast a start reads
the journal back that draining has left."""

import json
import os
import re
import subprocess
import tempfile
import time

from . import machine, stack

BASELINE_ALERTS = "baseline-alerts"
BASELINE_JOURNAL = "baseline-journal"
SIDES = ("service", "baseline", "journaling baseline")
# Beyond any run: a recovery reads the whole journal.
NO_CHECKPOINT = {"VERDICT__DATA__CHECKPOINT_SECS": "3600"}


def rounds(options, scratch, kafka):
    """Every round drains the same records once a side, each in its turn the first."""
    address = kafka.details()["bootstrap_servers"]
    sent = stack.fill(options, address)
    kafka.create([(BASELINE_ALERTS, stack.PARTITIONS, {})])
    found = []
    for number in range(options.rounds):
        first = number % len(SIDES)
        sides, run = SIDES[first:] + SIDES[:first], {}
        for side in sides:
            run[side] = service(scratch, kafka) if side == "service" else baseline(kafka, journaling=side != "baseline")
        found.append(run)
        print(f"round {number + 1}: " + ", ".join(f"{side} {per_cpu_s(run[side]):,.0f} events per CPU second" for side in sides), flush=True)
    return {"sent": sent, "rounds": found}


def service(scratch, kafka):
    """Counts from when the service is ready until all is consumed and published."""
    stack.empty_but_sources(kafka)
    started, watch = time.monotonic(), stack.Watch(kafka)
    with stack.service(scratch, kafka.details()["bootstrap_servers"]) as server:
        ready = time.monotonic()
        stack.until_drained(server)
        ended, cpu_s = time.monotonic(), server.cpu_s()
        foreign = watch.foreign_share(cpu_s)
        books = counted(server.text("/metrics"))
    return books | {"seconds": ended - ready, "start_s": ready - started, "cpu_s": cpu_s, "foreign_share": foreign}


def counted(metrics):
    """What was done, as the baseline tells it."""
    decisions = dict.fromkeys(("approve", "block", "challenge", "review"), 0)
    for labels, count in stack.labelled(metrics, "verdict_decisions_total").items():
        decisions[re.search(r'decision="(\w+)"', labels).group(1)] += int(count)
    found = {"decisions": decisions, "duplicates": int(stack.plain(metrics, "verdict_duplicates_total"))}
    found["dead_letters"] = int(sum(stack.labelled(metrics, "verdict_dead_letters_total").values()))
    found["alerts"] = int(stack.plain(metrics, "verdict_alerts_total"))
    return found | {"events": sum(decisions.values()) + found["duplicates"] + found["dead_letters"]}


def baseline(kafka, journaling):
    """One process over the topic from its start to its end, not pinned either."""
    command = ["taskset", "-c", f"0-{os.cpu_count() - 1}", machine.RELEASE / "baseline", "--alerts", BASELINE_ALERTS]
    if journaling:
        kafka.delete([BASELINE_JOURNAL])
        kafka.create([(BASELINE_JOURNAL, stack.PARTITIONS, {})])
        command += ["--journal", BASELINE_JOURNAL]
    environment, watch = machine.environment() | stack.settings(kafka.details()["bootstrap_servers"]), stack.Watch(kafka)
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True, cwd=machine.ROOT)
    found = json.loads(done.stdout)
    return found | {"foreign_share": watch.foreign_share(found["cpu_s"])}


def per_cpu_s(run):
    """Events per CPU second of the process, its start included."""
    return run["events"] / run["cpu_s"]


def recovery(scratch, kafka):
    """Drains without a checkpoint, kills the service, and times the next start: all records are read back. One shard recovers."""
    address = kafka.details()["bootstrap_servers"]
    stack.empty_but_sources(kafka)
    data = tempfile.mkdtemp(prefix="data-", dir=scratch)
    with stack.service(scratch, address, data, NO_CHECKPOINT) as server:
        stack.until_drained(server)
        events = counted(server.text("/metrics"))["events"]
        server.kill()
    started = time.monotonic()
    with stack.service(scratch, address, data, NO_CHECKPOINT) as server:
        ready_s, metrics = time.monotonic() - started, server.text("/metrics")
        users = stack.plain(metrics, "verdict_hot_users") + stack.plain(metrics, "verdict_dormant_users")
        again = counted(metrics)["events"]
    recoveries = stack.plain(metrics, "verdict_shard_recovery_seconds_count")
    seconds = stack.plain(metrics, "verdict_shard_recovery_seconds_sum")
    return {"events": events, "seconds": seconds, "ready_s": ready_s, "recoveries": recoveries, "users": users, "decided_again": again}


def faults(drained, recovered):
    """What makes the figures worthless: all sides must have decided the same."""
    found, sent = [], drained["sent"]["transactions"]
    for number, run in enumerate(drained["rounds"], 1):
        books = {side: {key: run[side][key] for key in ("events", "decisions", "duplicates", "dead_letters", "alerts")} for side in run}
        if any(books[side] != books["baseline"] for side in SIDES):
            found.append(f"round {number}: expected the same of service and baselines, found {books}")
        found += [f"round {number}: expected {sent} events of the {side}, found {books[side]['events']}" for side in books if books[side]["events"] != sent]
    if recovered["events"] != sent or recovered["recoveries"] != 1 or recovered["decided_again"] or not recovered["users"]:
        found.append(f"recovery: expected {sent} events read back by one shard, found {recovered}")
    return found
