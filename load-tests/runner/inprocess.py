"""The comparisons that need no server: rules against Rust, the model room against a bare session. Pinned to one core."""

import json
import subprocess

from . import machine

MOST_RULES_RATIO = 3.0
MOST_MODEL_RATIO = 1.3


def pinned(options, binary, *arguments):
    """The JSON that a binary prints as its last line."""
    command = ["taskset", "-c", str(options.server_core), str(machine.RELEASE / binary), "--rounds", str(options.rounds), *arguments]
    done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def verdict_of(ratio, limit):
    """Whether the median keeps a limit."""
    return "met" if ratio["median"] <= limit else "MISSED"


def rules(options, _scratch):
    """30 rules of the engine against the same conditions in Rust."""
    found = pinned(options, "rules_bench")
    ratio = machine.spread(run["engine_ns"] / run["rust_ns"] for run in found["rounds"])
    functions = machine.spread(run["engine_ns"] / run["functions_ns"] for run in found["rounds"])
    of = lambda key: machine.shown(machine.spread(run[key] for run in found["rounds"]), "{:.0f}")
    section = "\n".join([
        f"| {found['rules']} rules, {found['vectors']:,} vectors, {found['hits']:,} hits, identical | ns a vector |",
        "|---|---|",
        f"| compiled from CEL | {of('engine_ns')} |",
        f"| written in Rust, one function that is optimised whole | {of('rust_ns')} |",
        f"| written in Rust, a function a rule | {of('functions_ns')} |",
        "",
        f"- rules / Rust (at most {MOST_RULES_RATIO}): **{machine.shown(ratio)}** — {verdict_of(ratio, MOST_RULES_RATIO)}",
        f"- rules / a function a rule: {machine.shown(functions)}",
    ])  # fmt: skip
    return found, section, []


def model(options, _scratch):
    """One row, and batches, through the model room against a bare session."""
    found = pinned(options, "model_bench")
    rows = ["| rows | model room us a row | bare session us a row | ratio |", "|---|---|---|---|"]
    verdict = ""
    for batch in found["batches"]:
        ratio = machine.spread(run["room_us"] / run["bare_us"] for run in batch["rounds"])
        of = lambda key: machine.shown(machine.spread(run[key] for run in batch["rounds"]))
        rows.append(f"| {batch['rows']} | {of('room_us')} | {of('bare_us')} | {machine.shown(ratio)} |")
        if batch["rows"] == 1:
            verdict = f"- one row, room / bare (at most {MOST_MODEL_RATIO}): **{machine.shown(ratio)}** — {verdict_of(ratio, MOST_MODEL_RATIO)}"
    return found, "\n".join([*rows, "", verdict]), []
