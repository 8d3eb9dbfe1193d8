"""Twice the peak: what a service still does for those it answers, and how it turns the others away.

A service slows as its users and their histories grow, so peaks are measured for as long as the overload, before and after it, on
the same data, and their means count. A request costs more the more connections there are, whatever a server does for it: so the
overload is held against two peaks. That of few connections is what the service can do at best, and twice that is what is due; that
of as many connections takes their price out, but where the turnstile holds requests back it is in that peak as well.
"""

import json
import resource
import shutil
import subprocess
import threading

from . import decide, machine
from .servers import Server

LEAST_GOODPUT = 0.9
# Memory may grow with the users that the load brings; beyond this over the run something is kept that should not be.
MOST_GROWTH_MIB = 512
DEADLINE_MS = 200
SAMPLE_S = 0.5


def run(options, scratch):
    """A first run, the closed-loop peaks, twice that of few connections, open loop, and the peaks again; gives (results, markdown, faults)."""
    kind = machine.file_system(scratch)
    if kind in ("tmpfs", "ramfs"):
        return {}, "", [f"expected a scratch folder on a disk, found {scratch} on {kind}"]
    few, many = options.connections, options.overload_connections
    room_for(many)
    data = scratch / "data"
    command, environment, ready_path = decide.server_of("verdict", data)
    with Server(command, options.server_core, scratch / "verdict.log", environment, ready_path) as server:
        first = peak(options, server, few, seed=1)
        peaks = [peak(options, server, connections, seed) for seed, connections in ((2, few), (3, many))]
        rate = 2 * peaks[0]["decisions_per_s"]
        with Memory(server.process.pid) as memory:
            overload = generate(options, server, many, seed=4, rate=rate)
        peaks += [peak(options, server, connections, seed) for seed, connections in ((5, many), (6, few))]
    shutil.rmtree(data, ignore_errors=True)
    results = {
        "few": few, "first": first, "peaks_of_few": [peaks[0], peaks[3]], "connections": many, "peaks_of_as_many": peaks[1:3],
        "rate": rate, "warmup": options.warmup, "overload": overload, "resident_mib": memory.samples,
    }  # fmt: skip
    return results, markdown(results), faults(results)


def room_for(connections):
    """Lets this process, and the two that it starts, have so many connections open."""
    wanted = connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OSError(f"expected a limit of {wanted} open files, found {hard}; raise it, or use fewer --overload-connections")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def peak(options, server, connections, seed):
    """One run of the generator as fast as it is answered."""
    found = generate(options, server, connections, seed)
    print(f"peak: {found['decisions_per_s']:,.0f}/s over {connections} connections", flush=True)
    return found


def generate(options, server, connections, seed, rate=None):
    """One run of the generator."""
    generator = [
        "taskset", "-c", str(options.generator_core), str(machine.RELEASE / "generate"), server.address,
        "--connections", str(connections), "--seconds", str(options.overload_seconds), "--warmup", str(options.warmup),
        "--users", str(options.users), "--zipf", str(options.zipf), "--median", str(options.median),
        "--seed", str(seed), "--run", str(seed), "--in-time-ms", str(DEADLINE_MS),
    ]  # fmt: skip
    if rate is not None:
        generator += ["--rate", f"{rate:.0f}"]
    done = subprocess.run(generator, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Memory:
    """Samples the resident memory of a process in MiB while it is entered."""

    def __init__(self, pid):
        self.pid = pid
        self.samples = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        """Samples until told to stop."""
        while True:
            status = machine.read(f"/proc/{self.pid}/status")
            self.samples += [round(int(line.split()[1]) / 1024, 1) for line in status.splitlines() if line.startswith("VmRSS:")]
            if self.done.wait(SAMPLE_S):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def shares(counts):
    """(all, share that was answered, shares of refusals by status)."""
    total = max(counts["answered"] + sum(counts["refused"].values()) + counts["broken"], 1)
    return total, counts["answered"] / total, {status: count / total for status, count in sorted(counts["refused"].items())}


def faults(results):
    """What must not happen at any load."""
    found = []
    few, many = (f"a peak over {connections} connections" for connections in (results["few"], results["connections"]))
    runs = [(few, one) for one in [results["first"], *results["peaks_of_few"]]] + [(many, one) for one in results["peaks_of_as_many"]]
    runs.append(("overload", results["overload"]))
    for name, one in runs:
        counts = one["counts"]
        other = {status: count for status, count in counts["refused"].items() if status not in ("429", "503")}
        if other:
            found.append(f"{name}: expected answers of 2xx, 429 and 503 only, found {other}")
        for key in ("without_retry_after", "broken", "duplicates", "mismatched"):
            if counts[key]:
                found.append(f"{name}: expected no {key} answers, found {counts[key]}")
    return found


def markdown(results):
    """A section for REPORT.md."""
    overload, memory = results["overload"], results["resident_mib"]
    rates = lambda peaks: [one["decisions_per_s"] for one in results[peaks]]
    of_few, of_as_many = rates("peaks_of_few"), rates("peaks_of_as_many")
    told = lambda peaks: f"{peaks[0]:,.0f}/s before, {peaks[1]:,.0f}/s after"
    total, answered, refused = shares(overload["counts"])
    # Counts are of the whole run, the warm-up included.
    sent = total / (overload["seconds"] + results["warmup"])
    growth = max(memory) - memory[0] if memory else 0.0
    verdict = lambda holds: "met" if holds else "MISSED"

    def goodput(peaks):
        part = overload["in_time_per_s"] / max(sum(peaks) / len(peaks), 1e-9)
        return f"(at least {LEAST_GOODPUT}): **{part:.2f}** — {verdict(part >= LEAST_GOODPUT)}"

    turned_away = ", ".join(f"{status}: {share:.1%}" for status, share in refused.items()) or "nobody"
    every = max(len(memory) // 8, 1)
    return "\n".join([
        f"Closed loop, the first {results['first']['seconds']:.0f} s of an empty service: {results['first']['decisions_per_s']:,.0f}/s. Peaks: over {results['few']:,} connections {told(of_few)}; over {results['connections']:,} {told(of_as_many)}. Between them {results['rate']:,.0f}/s due, open loop, over {results['connections']:,} connections for {overload['seconds']:.0f} s: {sent:,.0f}/s were sent.",
        "",
        f"- goodput (2xx within {DEADLINE_MS} ms of sending) / mean of the peaks over as many connections {goodput(of_as_many)}",
        f"- goodput / mean of the peaks over {results['few']:,} connections {goodput(of_few)}",
        f"- answered {answered:.1%}, turned away {turned_away}; without Retry-After {overload['counts']['without_retry_after']}, broken {overload['counts']['broken']}, degraded {overload['counts']['not_normal']}",
        f"- latency from the time a request was due, of those answered: p50 {overload['latency']['p50_us'] / 1e3:.0f} ms, p99 {overload['latency']['p99_us'] / 1e3:.0f} ms",
        f"- resident MiB over time: {', '.join(f'{one:.0f}' for one in memory[::every])}; growth (under {MOST_GROWTH_MIB}): **{growth:.0f}** — {verdict(growth < MOST_GROWTH_MIB)}",
        f"- generator CPU {overload['generator_cpu'] or 0:.2f} of a core",
    ])  # fmt: skip
