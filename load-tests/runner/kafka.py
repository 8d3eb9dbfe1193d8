"""With the journal on Kafka: `/v1/decide`, closed loop and at half of that, how fast topics filled beforehand are drained
beside single-threaded baselines with and without a journal, and how fast a start reads the journal back.

One broker on this machine, started for this, which shares both cores with the service and the generator: the figures are of
all three together.
"""

from . import decide as closed_loop
from . import drain, machine, stack

MOST_P50_MS = 5.0
MOST_P99_MS = 25.0
LEAST_OF_BASELINE = 0.70
LEAST_RECOVERY = 5.0


def run(options, scratch):
    """Gives (results, markdown, faults)."""
    broker = stack.broker(scratch)
    try:
        broker.start()
        results = {"decide": decide(options, scratch, broker.details()["bootstrap_servers"])}
        results["drain"] = drain.rounds(options, scratch, broker)
        results["recovery"] = drain.recovery(scratch, broker)
    finally:
        broker.stop()
        broker.remove()
    return results, markdown(results), faults(results)


def decide(options, scratch, address):
    """The peak, and the latency at half of it, from when a request was due."""
    with stack.service(scratch, address) as server:
        stack.generate(options, server, run=3, seconds=stack.BROKER_WARMUP_S)
        peak = stack.generate(options, server, run=1)
        print(f"peak: {peak['decisions_per_s']:,.0f}/s", flush=True)
        half = stack.generate(options, server, run=2, rate=peak["decisions_per_s"] / 2)
    return {"peak": peak, "half": half}


def faults(results):
    """What makes the figures worthless."""
    found = [fault for name, run in results["decide"].items() for fault in stack.unsound(name, run["counts"])]
    return found + drain.faults(results["drain"], results["recovery"])


def markdown(results):
    """A section for REPORT.md."""
    peak, half, recovered = results["decide"]["peak"], results["decide"]["half"], results["recovery"]
    p50, p99 = half["latency"]["p50_us"] / 1e3, half["latency"]["p99_us"] / 1e3
    verdict = lambda holds: "met" if holds else "MISSED"
    rounds = results["drain"]["rounds"]
    ratio, journaling, of_journaling = (
        machine.spread(drain.per_cpu_s(run[one]) / drain.per_cpu_s(run[other]) for run in rounds)
        for one, other in (("service", "baseline"), ("journaling baseline", "baseline"), ("service", "journaling baseline"))
    )
    replayed = recovered["events"] / recovered["seconds"]
    times = replayed / peak["decisions_per_s"]
    doubtful = sum(run[side]["foreign_share"] > closed_loop.FOREIGN_SHARE for run in rounds for side in run)
    doubts = [f"- {doubtful} of {len(drain.SIDES) * len(rounds)} drains are doubtful: other processes used more than {closed_loop.FOREIGN_SHARE:.0%} of the machine."]
    return "\n".join([
        f"- `/v1/decide`, durable on Kafka, closed loop: {peak['decisions_per_s']:,.0f}/s, p50 {peak['latency']['p50_us'] / 1e3:.2f} ms, p99 {peak['latency']['p99_us'] / 1e3:.2f} ms",
        f"- at half of that, {half['decisions_per_s']:,.0f}/s, open loop: p50 **{p50:.2f} ms** (under {MOST_P50_MS:.0f}) — {verdict(p50 < MOST_P50_MS)}, p99 **{p99:.2f} ms** (under {MOST_P99_MS:.0f}) — {verdict(p99 < MOST_P99_MS)}",
        "",
        *table(results["drain"]),
        "",
        f"- service / baseline, events per CPU second (at least {LEAST_OF_BASELINE:.2f}): **{machine.shown(ratio)}** — {verdict(ratio['median'] >= LEAST_OF_BASELINE)}",
        f"- a baseline that also writes a record of each decision and reads it back once / baseline: **{machine.shown(journaling)}**; service / that: **{machine.shown(of_journaling)}**",
        f"- recovery: {recovered['events']:,} records read back in {recovered['seconds']:.1f} s, {replayed:,.0f}/s, ready {recovered['ready_s']:.1f} s after the start; against the peak of `/v1/decide` (at least {LEAST_RECOVERY:.0f} times): **{times:.1f} times** — {verdict(times >= LEAST_RECOVERY)}",
        *(doubts if doubtful else []),
    ])  # fmt: skip


def table(drained):
    """All sides of the draining."""
    first = drained["rounds"][0]["service"]
    decisions = ", ".join(f"{count:,} {name}" for name, count in first["decisions"].items())
    lines = [
        f"{drained['sent']['transactions']:,} transactions filled beforehand, {len(drained['rounds'])} rounds, each side with the same decisions: {decisions}.",
        "",
        "| | events/s | events per CPU second of the process | CPU s |",
        "|---|---|---|---|",
    ]
    for side in drain.SIDES:
        runs = [run[side] for run in drained["rounds"]]
        rate = machine.spread(run["events"] / run["seconds"] for run in runs)
        per_cpu = machine.spread(map(drain.per_cpu_s, runs))
        cpu = machine.spread(run["cpu_s"] for run in runs)
        lines.append(f"| {side} | {machine.shown(rate, '{:,.0f}')} | {machine.shown(per_cpu, '{:,.0f}')} | {machine.shown(cpu, '{:.1f}')} |")
    return lines
