"""Memory and recovery with many users: a checkpoint of them, a service that starts on it, and traffic that wakes users
until as many are hot as may be."""

import json
import os
import re
import shutil
import subprocess
import time

from . import machine
from .servers import Server

# Of a million users.
MOST_GIB = 1.25
MOST_RECOVERY_S = 20.0
NODE_GIB = 24
GIB = 1 << 30
# Bytes of a node that are not the service's: the system, its page cache, room to compact.
NODE_SPARE_GIB = 4


def run(options, scratch):
    """Fills, recovers, wakes; gives (results, markdown, faults)."""
    data = scratch / "data"
    fill = [str(machine.RELEASE / "fill_users"), "--data-dir", str(data), "--users", str(options.stored_users), "--events", str(options.events)]
    filled = json.loads(subprocess.run(fill, capture_output=True, text=True, check=True).stdout)
    empty = start(scratch / "empty", scratch / "empty.log", options, lambda server: resident(server))
    found = start(data, scratch / "users.log", options, lambda server: observe(server, options))
    shutil.rmtree(data, ignore_errors=True)
    found |= {"filled": filled, "empty_bytes": empty}
    return found, markdown(found, options), faults(found, options)


def start(data, log, options, look):
    """What is seen of a service on a folder."""
    environment = {"RUST_LOG": "info", "VERDICT__ACTORS__HOT_USERS": str(options.hot_users)}
    command = [machine.RELEASE / "verdict", "serve", "--config", os.devnull, "--data-dir", data]
    began = time.monotonic()
    with Server(command, f"{options.server_core},{options.generator_core}", log, environment, "/readyz") as server:
        ready_s = time.monotonic() - began
        seen = look(server)
        return seen | {"ready_s": ready_s} if isinstance(seen, dict) else seen


def observe(server, options):
    """Memory after the recovery, and with as many hot users as may be."""
    metrics = server.text("/metrics")
    found = {
        "recovered": {"resident": resident(server), "peak": resident(server, "VmHWM")},
        "dormant": metric(metrics, "verdict_dormant_users"),
        "recoveries": metric(metrics, "verdict_shard_recovery_seconds_count"),
        "recovery_s": metric(metrics, "verdict_shard_recovery_seconds_sum"),
    }
    # Every user as likely as any other, so that nearly every request wakes one until the places are taken.
    generator = [
        str(machine.RELEASE / "generate"), server.address, "--connections", str(options.connections), "--seconds", str(options.seconds),
        "--warmup", str(options.warmup), "--users", str(options.stored_users), "--zipf", "0", "--median", str(options.median),
    ]  # fmt: skip
    found["traffic"] = json.loads(subprocess.run(generator, capture_output=True, text=True, check=True).stdout)
    metrics = server.text("/metrics")
    found["woken"] = {
        "resident": resident(server),
        "peak": resident(server, "VmHWM"),
        "hot": metric(metrics, "verdict_hot_users"),
        "dormant": metric(metrics, "verdict_dormant_users"),
        "passivations": metric(metrics, "verdict_user_passivations_total"),
        "wake_ups": metric(metrics, "verdict_user_wake_ups_total"),
    }
    return found


def resident(server, field="VmRSS"):
    """Bytes of the service that are in memory now, or were at most (`VmHWM`)."""
    lines = machine.read(f"/proc/{server.process.pid}/status").splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(field + ":")), 0)


def metric(text, name):
    """The value of a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def faults(found, options):
    """What makes the figures worthless, whatever they are."""
    expected, counts = options.stored_users, found["traffic"]["counts"]
    wrong = []
    if found["dormant"] != expected:
        wrong.append(f"expected {expected} dormant users after the recovery, found {found['dormant']:.0f}")
    woken = found["woken"]
    if woken["hot"] + woken["dormant"] != expected:
        wrong.append(f"expected {expected} users in memory, found {woken['hot']:.0f} hot and {woken['dormant']:.0f} dormant")
    # Those with a request in flight are over the bound.
    if woken["hot"] > options.hot_users + options.connections:
        wrong.append(f"expected at most {options.hot_users} hot users, found {woken['hot']:.0f}")
    if counts["durable"] != counts["answered"] or not counts["answered"]:
        wrong.append(f"expected {counts['answered']} durable answers, found {counts['durable']}")
    wrong += [f"expected no {key} answers, found {counts[key]}" for key in ("broken", "duplicates", "mismatched") if counts[key]]
    return wrong


def markdown(found, options):
    """A section for REPORT.md."""
    users, filled, woken = options.stored_users, found["filled"], found["woken"]
    gib = lambda size: f"{size / GIB:.3f}"
    a_user = lambda size: f"{(size - found['empty_bytes']) / users:,.0f}"
    rows = [
        f"| {users:,} users with {options.events} events each | resident GiB | at most GiB | bytes a user beyond an empty service |",
        "|---|---|---|---|",
        f"| no users | {gib(found['empty_bytes'])} | | |",
        f"| recovered, all dormant | {gib(found['recovered']['resident'])} | {gib(found['recovered']['peak'])} | {a_user(found['recovered']['resident'])} |",
        f"| {woken['hot']:,.0f} hot, {woken['dormant']:,.0f} dormant | {gib(woken['resident'])} | {gib(woken['peak'])} | {a_user(woken['resident'])} |",
        "",
        f"Stored: {filled['profile_bytes'] / users:.0f} bytes a profile, {filled['id_bytes'] / users:.0f} an id. "
        f"{woken['wake_ups']:,.0f} wake-ups and {woken['passivations']:,.0f} passivations in {options.warmup + options.seconds:.0f} s of "
        f"{found['traffic']['decisions_per_s']:,.0f} decisions/s, p99 {found['traffic']['latency']['p99_us'] / 1e3:.1f} ms.",
    ]  # fmt: skip
    recovery = found["recovery_s"] / max(found["recoveries"], 1)
    if users == 1_000_000:
        memory = "met" if woken["resident"] <= MOST_GIB * GIB else "MISSED"
        rows.append(f"- resident with every place taken (at most {MOST_GIB} GiB): **{gib(woken['resident'])} GiB** — {memory}")
    speed = "met" if found["ready_s"] <= MOST_RECOVERY_S else "MISSED"
    rows.append(
        f"- from the start of the process to ready (under {MOST_RECOVERY_S:.0f} s): **{found['ready_s']:.1f} s** — {speed}; a shard's recovery {recovery:.1f} s"
    )
    each = max((found["recovered"]["resident"] - found["empty_bytes"]) / users, 1)
    hot = max(woken["resident"] - found["recovered"]["resident"], 0)
    room = (NODE_GIB - NODE_SPARE_GIB) * GIB - found["empty_bytes"] - hot
    rows.append(f"- a node of {NODE_GIB} GiB, {NODE_SPARE_GIB} of them left to the system, would hold {room / each / 1e6:.0f} million such users (computed)")
    return "\n".join(rows)
