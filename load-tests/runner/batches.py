"""The model row by row against rows scored together, in the same service: throughput, and latency at the same loads."""

from . import decide, machine

# Each side is the same binary; what differs is this setting, which stands at its default on the second side.
SIDES = {"row by row": {"VERDICT__MODEL__MAX_BATCH": "1"}, "batches": {}}
BEFORE, AFTER = SIDES
# Of the peak of row by row, so that both sides are given the same load.
LOADS = (0.5, 0.7, 0.9)
# An open loop that answered less than this share of what was due did not keep up: requests that were never sent have no latency.
KEPT_UP = 0.99


def run(options, scratch):
    """Peaks in alternate rounds, then each load in alternate rounds; gives (results, markdown, faults)."""
    kind = machine.file_system(scratch)
    if kind in ("tmpfs", "ramfs"):
        return {}, "", [f"expected a scratch folder on a disk, found {scratch} on {kind}"]
    disk = machine.disk_commits(scratch)
    peaks = [both(options, scratch, number, "closed loop") for number in range(options.rounds)]
    peak = machine.spread(found[BEFORE]["decisions_per_s"] for found in peaks)["median"]
    rates = {f"{share:.0%}": share * peak for share in LOADS}
    loads = {load: [] for load in rates}
    # Every load in every round, so that what the machine does meanwhile hits all of them.
    for number in range(options.rounds):
        for load, rate in rates.items():
            loads[load].append(both(options, scratch, number, load, rate))
    results = {"disk": disk, "file_system": kind, "peaks": peaks, "rates": rates, "loads": loads}
    return results, markdown(results), faults(results)


def both(options, scratch, number, load, rate=None):
    """One run of each side on a fresh service, the second side first in every other round."""
    found = {}
    for side in SIDES if number % 2 == 0 else reversed(SIDES):
        found[side] = decide.measure("verdict", options, scratch, seed=number + 1, rate=rate, settings=SIDES[side])
        print(decide.line(number, f"{side}, {load}", found[side]), flush=True)
    return found


def rows_a_run(found):
    """Rows that the model was given at a time, the warm-up included."""
    metrics = found["metrics"]
    return metrics.get("verdict_model_rows_total", 0.0) / max(metrics.get("verdict_model_runs_total", 0.0), 1.0)


def measured(results):
    """(what the load was, its rounds), the closed loop first."""
    yield "closed loop", results["peaks"]
    for load, rounds in results["loads"].items():
        yield f"{load}, {results['rates'][load]:,.0f}/s due", rounds


def faults(results):
    """What makes the figures worthless: a wrong answer, one that is refused, or sides that were not what they should be."""
    found = []
    for load, rounds in measured(results):
        for number, sides in enumerate(rounds):
            for side, run in sides.items():
                found += decide.faults_of(f"{load}, {side}, round {number + 1}", run)
                runs, rows = (run["metrics"].get(f"verdict_model_{what}_total", 0.0) for what in ("runs", "rows"))
                if not rows or (side == BEFORE) and runs != rows:
                    found.append(f"{load}, {side}, round {number + 1}: found {rows:.0f} rows in {runs:.0f} runs of the model")
        if load == "closed loop" and all(rows_a_run(sides[AFTER]) <= 1.0 for sides in rounds):
            found.append("expected batches of more than one row under a closed loop, found none")
    return found


def markdown(results):
    """A section for REPORT.md."""
    rows = [
        "| load | model | requests/s | p50 ms | p99 ms | p99.9 ms | max ms | rows a run | server CPU us/request |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for load, rounds in measured(results):
        for side in SIDES:
            of = lambda pick: machine.spread(pick(found[side]) for found in rounds)
            latency = lambda key: machine.shown(of(lambda run: run["latency"][key] / 1e3))
            rows.append(
                f"| {load} | {side} | {machine.shown(of(lambda run: run['decisions_per_s']), '{:,.0f}')} "
                f"| {latency('p50_us')} | {latency('p99_us')} | {latency('p999_us')} | {latency('max_us')} "
                f"| {machine.shown(of(rows_a_run), '{:.1f}')} | {machine.shown(of(lambda run: run['server_us']), '{:.1f}')} |"
            )
    disk = results["disk"]
    rows += ["", f"Disk ({results['file_system']}): {disk['bytes'] // 1024} KiB append + fdatasync p50 {disk['p50_us']} us, p99 {disk['p99_us']} us."]
    rows.append(f"- requests/s of the closed loop, {AFTER} / {BEFORE}: **{ratio(results['peaks'], lambda run: run['decisions_per_s'])}**")
    for load, rounds in results["loads"].items():
        p99 = ratio(rounds, lambda run: run["latency"]["p99_us"])
        rows.append(f"- p99 at {load}, {AFTER} / {BEFORE}: **{p99}**, p99.9 {ratio(rounds, lambda run: run['latency']['p999_us'])}")
    return "\n".join(rows + behind(results) + decide.doubts([run for _, rounds in measured(results) for found in rounds for run in found.values()]))


def ratio(rounds, pick):
    """What a figure is with batches, in parts of what it is row by row, round by round."""
    return machine.shown(machine.spread(pick(found[AFTER]) / max(pick(found[BEFORE]), 1e-9) for found in rounds))


def behind(results):
    """Lines that say which open loops did not keep up with what was due."""
    lines = []
    for load, rounds in results["loads"].items():
        for side in SIDES:
            late = sum(found[side]["decisions_per_s"] < KEPT_UP * results["rates"][load] for found in rounds)
            if late:
                lines.append(f"- {side}, {load}: {late} of {len(rounds)} runs did not keep up with what was due")
    return lines
