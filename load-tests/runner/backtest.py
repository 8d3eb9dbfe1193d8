"""A backtest of the handbook's history on one core: rows a second, rules and model included."""

import json
import os
import subprocess
import time

from . import machine

LEAST_ROWS_PER_S = 50_000
HANDBOOK = machine.ROOT.parent / "shared" / "data" / "handbook" / "transactions-2018-04_06.csv.gz"


def run(options, scratch):
    """Runs it a few times, pinned; gives (results, markdown, faults), or nothing where there is nothing to run it on."""
    if not options.handbook.exists():
        missing = f"the handbook's history is not at {options.handbook}; name it with --handbook"
        if "backtest" in options.parts:
            return {}, "", [missing]
        # One of all: who has no data still gets the rest.
        print(f"SKIPPED: {missing}", flush=True)
        return None
    environment = machine.environment() | {"VERDICT__ACTORS__SHARDS": "1", "VERDICT__HTTP__WORKERS": "1", "RUST_LOG": "warn"}
    command = [
        "taskset", "-c", str(options.server_core), str(machine.RELEASE / "verdict"), "backtest",
        "--config", os.devnull, "--input", str(options.handbook), "--output", str(scratch / "decisions.ndjson"),
    ]  # fmt: skip
    rounds = []
    for number in range(options.rounds):
        start, cpu = time.monotonic(), children_s()
        done = subprocess.run(command, cwd=machine.ROOT, env=environment, capture_output=True, text=True, check=True)
        wall, cpu = time.monotonic() - start, children_s() - cpu
        summary = json.loads(done.stdout.strip().splitlines()[-1])
        found = {"summary": summary, "wall_s": wall, "cpu_s": cpu, "rows_per_s": summary["rows"] / wall}
        print(f"round {number + 1}: {summary['rows']} rows in {wall:.2f} s, {found['rows_per_s']:,.0f} rows/s, {cpu:.2f} CPU s", flush=True)
        rounds.append(found)
    rate = machine.spread(found["rows_per_s"] for found in rounds)
    per_cpu = machine.spread(found["summary"]["rows"] / found["cpu_s"] for found in rounds)
    summaries = {json.dumps(found["summary"] | {"seconds": None}, sort_keys=True) for found in rounds}
    faults = [] if len(summaries) == 1 else [f"expected the same summary every time, found {sorted(summaries)}"]
    section = "\n".join([
        f"Summary: `{summaries.pop()}`",
        "",
        f"- rows/s on one core, start to exit (at least {LEAST_ROWS_PER_S:,}): **{machine.shown(rate, '{:,.0f}')}**"
        f" — {'met' if rate['median'] >= LEAST_ROWS_PER_S else 'MISSED'}",
        f"- rows per CPU second: {machine.shown(per_cpu, '{:,.0f}')}",
    ])  # fmt: skip
    return {"rounds": rounds}, section, faults


def children_s():
    """CPU seconds of the processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system
