"""The comparisons that need no server: rules against Rust, the model room against a bare session. Pinned to one core."""

import json
import os
import subprocess

from . import machine

MOST_RULES_RATIO = 3.0
MOST_MODEL_RATIO = 1.3


def pinned(options, binary, *arguments):
    """The JSON that a binary prints as its last line."""
    command = ["taskset", "-c", str(options.server_core), str(machine.RELEASE / binary), *arguments]
    done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def verdict_of(ratio, limit):
    """Whether the median keeps a limit."""
    return "met" if ratio["median"] <= limit else "MISSED"


def rules(options, _scratch):
    """30 rules of the engine against the same conditions in Rust."""
    found = pinned(options, "rules_bench", "--rounds", str(options.rounds))
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


def runtime_library():
    """The ONNX Runtime library that the service would take."""
    cached = sorted((machine.ROOT / ".cache" / "onnxruntime").glob("*/libonnxruntime.so"))
    return os.environ.get("ORT_DYLIB_PATH") or (str(cached[-1]) if cached else None)


def model(options, _scratch):
    """One row, and batches, through the model room against a bare session: a process each, in turn."""
    library = runtime_library()
    if library is None:
        return {}, "", ["expected ONNX Runtime in .cache/onnxruntime or ORT_DYLIB_PATH; `make setup` fetches it"]
    rounds = []
    for number in range(options.rounds):
        sides = ["room", "bare"] if number % 2 == 0 else ["bare", "room"]
        rounds.append({side: pinned(options, "model_bench", "--side", side, "--library", library) for side in sides})
    faults = [] if all(found["room"]["scores"] == found["bare"]["scores"] for found in rounds) else ["the sides found different scores"]
    rows = ["| rows in a batch | model room, us a row | bare session, us a row | ratio |", "|---|---|---|---|"]
    verdict = ""
    for place, batch in enumerate(rounds[0]["room"]["batches"]):
        took = lambda found, side: found[side]["batches"][place]["us_a_row"]
        of = lambda side: machine.shown(machine.spread(took(found, side) for found in rounds))
        ratio = machine.spread(took(found, "room") / took(found, "bare") for found in rounds)
        rows.append(f"| {batch['rows']} | {of('room')} | {of('bare')} | {machine.shown(ratio)} |")
        if batch["rows"] == 1:
            verdict = f"- one row, room / bare (at most {MOST_MODEL_RATIO}): **{machine.shown(ratio)}** — {verdict_of(ratio, MOST_MODEL_RATIO)}"
    return {"rounds": rounds}, "\n".join([*rows, "", verdict]), faults
