"""`/v1/decide`, durable, against the echo: alternate rounds of fresh servers on one core, the generator on another."""

import json
import os
import shutil
import subprocess
import time

from . import machine
from .servers import Server

LEAST_RATIO = 0.40
AIM_RATIO = 0.5
MOST_P99_MS = 10.0
# More foreign CPU time than this share of the machine makes a round doubtful.
FOREIGN_SHARE = 0.05


def run(options, scratch):
    """Runs all rounds; gives (results, markdown, faults)."""
    kind = machine.file_system(scratch)
    if kind in ("tmpfs", "ramfs"):
        return {}, "", [f"expected a scratch folder on a disk, found {scratch} on {kind}"]
    disk = machine.disk_commits(scratch)
    subjects = ["echo", "decision-echo"] + ([] if options.echo_only else ["verdict"])
    rounds = []
    for number in range(options.rounds):
        found = {}
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            found[subject] = measure(subject, options, scratch, seed=number + 1)
            print(line(number, subject, found[subject]), flush=True)
        rounds.append(found)
    results = {"disk": disk, "file_system": kind, "rounds": rounds}
    if not options.echo_only:
        rate = 0.5 * machine.spread(found["verdict"]["decisions_per_s"] for found in rounds)["median"]
        results["open_loop"] = measure("verdict", options, scratch, seed=99, rate=rate) | {"rate": rate}
        print(line(options.rounds, "verdict, open loop", results["open_loop"]), flush=True)
    return results, markdown(results, subjects), faults(results)


def measure(subject, options, scratch, seed, rate=None, settings=None):
    """One server, started fresh, under the generator; `settings` are variables that go over the service's own."""
    data = scratch / "data"
    shutil.rmtree(data, ignore_errors=True)
    log = scratch / f"{subject}.log"
    command, environment, ready_path = server_of(subject, data)
    with Server(command, options.server_core, log, environment | (settings or {}), ready_path) as server:
        generator = [
            "taskset", "-c", str(options.generator_core), str(machine.RELEASE / "generate"), server.address,
            "--connections", str(options.connections), "--seconds", str(options.seconds), "--warmup", str(options.warmup),
            "--users", str(options.users), "--zipf", str(options.zipf), "--median", str(options.median),
            "--seed", str(seed),
        ]  # fmt: skip
        if rate is not None:
            generator += ["--rate", f"{rate:.0f}"]
        before = (time.monotonic(), machine.busy_s(), server.cpu_s())
        done = subprocess.run(generator, capture_output=True, text=True, check=True)
        after = (time.monotonic(), machine.busy_s(), server.cpu_s())
        found = json.loads(done.stdout)
        if subject == "verdict":
            found["metrics"] = work_of(server.text("/metrics"))
    wall, busy, server_s = (late - early for early, late in zip(before, after))
    ours = server_s + found["generator_cpu"] * (options.seconds + options.warmup)
    answered = max(found["counts"]["answered"], 1)
    found["server_us"] = server_s / answered * 1e6
    found["server_cpu"] = server_s / wall
    found["foreign_share"] = max(busy - ours, 0.0) / wall / machine.describe()["cores"]
    shutil.rmtree(data, ignore_errors=True)
    return found


def server_of(subject, data):
    """Command, environment and readiness path of a subject."""
    if subject != "verdict":
        answer = "request" if subject == "echo" else "decision"
        return [machine.RELEASE / "echo", "--workers", 1, "--answer", answer], {}, None
    environment = {"VERDICT__HTTP__WORKERS": "1", "VERDICT__ACTORS__SHARDS": "1", "RUST_LOG": "warn"}
    return [machine.RELEASE / "verdict", "serve", "--config", os.devnull, "--data-dir", data], environment, "/readyz"


def work_of(metrics):
    """The service's own metrics whose names speak of the journal and of the model, for the record."""
    ours = ("verdict_journal", "verdict_model")
    lines = (line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith(ours) and "bucket" not in line)
    return {name: float(value) for name, value in lines}


def line(number, subject, found):
    """One round, for whoever watches."""
    latency = found["latency"]
    return (
        f"round {number + 1}: {subject:<18} {found['decisions_per_s']:>9.0f}/s  p50 {latency['p50_us'] / 1e3:.2f} ms"
        f"  p99 {latency['p99_us'] / 1e3:.2f} ms  server {found['server_us']:.1f} us/request"
        f"  cpu server {found['server_cpu']:.2f} generator {found['generator_cpu']:.2f}"
        f" others {found['foreign_share']:.2f}"
    )


def faults(results):
    """What makes the figures worthless, whatever they are."""
    named = [(f"round {at + 1}", run) for at, rounds in enumerate(results["rounds"]) for name, run in rounds.items() if name == "verdict"]
    named += [("open loop", results["open_loop"])] if "open_loop" in results else []
    return [fault for name, run in named for fault in faults_of(name, run)]


def faults_of(name, run):
    """What is wrong with the answers of one run of the service."""
    found, counts = [], run["counts"]
    if counts["durable"] != counts["answered"]:
        found.append(f"{name}: expected {counts['answered']} durable answers, found {counts['durable']}")
    for key in ("broken", "duplicates", "mismatched", "not_normal"):
        if counts[key]:
            found.append(f"{name}: expected no {key} answers, found {counts[key]}")
    if counts["refused"]:
        found.append(f"{name}: expected no refused requests, found {counts['refused']}")
    return found


def doubts(runs):
    """Lines that say which of some runs are not to be trusted."""
    lines = []
    doubtful = sum(run["foreign_share"] > FOREIGN_SHARE for run in runs)
    if doubtful:
        lines.append(f"- {doubtful} of {len(runs)} runs are doubtful: other processes used more than {FOREIGN_SHARE:.0%} of the machine.")
    saturated = sum(run["generator_cpu"] > 0.95 for run in runs)
    if saturated:
        lines.append(f"- {saturated} runs are doubtful: the generator used its whole core.")
    return lines


def markdown(results, subjects):
    """A section for REPORT.md."""
    rounds = results["rounds"]
    rows = ["| | requests/s | p50 ms | p99 ms | server CPU us/request |", "|---|---|---|---|---|"]
    for subject in subjects:
        of = lambda pick: machine.spread(pick(found[subject]) for found in rounds)
        rows.append(
            f"| {subject} | {machine.shown(of(lambda run: run['decisions_per_s']), '{:,.0f}')} "
            f"| {machine.shown(of(lambda run: run['latency']['p50_us'] / 1e3))} "
            f"| {machine.shown(of(lambda run: run['latency']['p99_us'] / 1e3))} "
            f"| {machine.shown(of(lambda run: run['server_us']), '{:.1f}')} |"
        )
    disk = results["disk"]
    rows += ["", f"Disk ({results['file_system']}): {disk['bytes'] // 1024} KiB append + fdatasync p50 {disk['p50_us']} us, p99 {disk['p99_us']} us."]
    if "verdict" in subjects:
        for base, aim in (("echo", f" (at least {LEAST_RATIO}, aim {AIM_RATIO})"), ("decision-echo", "")):
            ratio = machine.spread(found["verdict"]["decisions_per_s"] / found[base]["decisions_per_s"] for found in rounds)
            verdict = "" if not aim else " — met" if ratio["median"] >= LEAST_RATIO else " — MISSED"
            rows.append(f"- verdict / {base}{aim}: **{machine.shown(ratio)}**{verdict}")
        p99 = machine.spread(found["verdict"]["latency"]["p99_us"] / 1e3 for found in rounds)
        verdict = "met" if p99["median"] < MOST_P99_MS else "MISSED"
        rows.append(f"- verdict p99 (under {MOST_P99_MS:.0f} ms): **{machine.shown(p99)} ms** — {verdict}")
        open_loop = results["open_loop"]
        latency = open_loop["latency"]
        rows.append(
            f"- open loop at {open_loop['rate']:,.0f}/s, latency from the time a request was due: p50 {latency['p50_us'] / 1e3:.2f} ms, "
            f"p99 {latency['p99_us'] / 1e3:.2f} ms, p99.9 {latency['p999_us'] / 1e3:.2f} ms, max {latency['max_us'] / 1e3:.1f} ms"
        )
    return "\n".join(rows + doubts([run for found in rounds for run in found.values()]))
