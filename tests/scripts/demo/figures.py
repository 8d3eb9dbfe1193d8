"""The figures of a run: what /metrics, the answers and the demo's own client say, over the last minute. Reads no clock."""

import math
import threading
from collections import Counter, deque
from dataclasses import dataclass, field

KINDS = ("approve", "challenge", "review", "block")
WINDOW_SECS = 60
PERCENTILES = (0.5, 0.95, 0.99)
# The current rate is over so many of the last seconds, so that a number can be read before it changes.
RATE_OVER_SECS = 5


@dataclass(frozen=True)
class View:
    """All that is shown, at one instant. Latencies are p50, p95, p99 in ms, or None each while nothing is known."""

    url: str
    rate: float = 200
    fraud: str = "5"
    elapsed_secs: float = 0
    limit_secs: float = 0
    kinds: dict = field(default_factory=dict)
    alerts_total: int = 0
    other_events: int = 0
    decisions_a_second: float = 0
    rates: tuple = ()
    client: tuple = (None, None, None)
    decide: tuple = (None, None, None)
    end_to_end: tuple = (None, None, None)
    alerts: tuple = ()
    notice: str = ""


def parse_metrics(text):
    """The samples of Prometheus' text format: {name: {labels: value}}."""
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#") and " " in line:
            series, value = line.rsplit(" ", 1)
            name, _, labels = series.partition("{")
            samples.setdefault(name, {})[labels.rstrip("}")] = float(value)
    return samples


def label(labels, name):
    """The value of one label of `a="b",c="d"`."""
    return labels.partition(f'{name}="')[2].partition('"')[0]


def buckets(samples, name):
    """A histogram's cumulative counts, by upper bound in seconds."""
    return {float(label(labels, "le")): count for labels, count in samples.get(f"{name}_bucket", {}).items()}


def histogram_percentile(share, newer, older):
    """As Prometheus' histogram_quantile over what came between the two, in seconds; None when nothing came."""
    counts = sorted((bound, count - older.get(bound, 0)) for bound, count in newer.items())
    total = counts[-1][1] if counts else 0
    if total <= 0:
        return None
    rank, below, floor = share * total, 0, 0.0
    for bound, count in counts:
        if count >= rank:
            # Beyond the last bound nothing more is known than that bound.
            return floor if math.isinf(bound) else floor + (bound - floor) * (rank - below) / max(count - below, 1e-9)
        below, floor = count, bound
    return floor


def percentile(share, ordered):
    """The smallest value that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


class Figures:
    """Fed by threads, read by whoever draws. Instants are seconds of one monotonic clock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seen = Counter()  # of the simulated traffic
        self.refusal = ""
        self.samples = {}
        self.scrapes = deque()  # (instant, decisions, decide buckets, end-to-end buckets), at least a second apart
        self.round_trips = deque()  # (instant, ms)
        self.alerts = ()
        self.notice = ""

    def add_answer(self, answer, line):
        with self.lock:
            if "decision" in answer:
                self.seen[answer["decision"]] += 1
            elif "login_id" in answer or answer.get("accepted"):
                self.seen["other events"] += 1
            else:
                self.seen["refused"] += 1
                self.refusal = self.refusal or line

    def add_round_trip(self, now, ms):
        with self.lock:
            self.round_trips.append((now, ms))
            while self.round_trips[0][0] < now - WINDOW_SECS:
                self.round_trips.popleft()

    def add_metrics(self, now, text):
        samples = parse_metrics(text)
        decisions = sum(samples.get("verdict_decisions_total", {}).values())
        histograms = [buckets(samples, name) for name in ("verdict_decide_seconds", "verdict_end_to_end_seconds")]
        with self.lock:
            self.samples = samples
            if not self.scrapes or now >= self.scrapes[-1][0] + 0.95:
                self.scrapes.append((now, decisions, *histograms))
            while len(self.scrapes) > 1 and self.scrapes[0][0] < now - WINDOW_SECS - 1:
                self.scrapes.popleft()

    def add_alerts(self, alerts):
        with self.lock:
            self.alerts = tuple(alerts)

    def note(self, notice):
        with self.lock:
            self.notice = notice

    def kinds(self):
        counts = dict.fromkeys(KINDS, 0)
        for labels, count in self.samples.get("verdict_decisions_total", {}).items():
            kind = label(labels, "decision")
            counts[kind] = counts.get(kind, 0) + int(count)
        return counts

    def total(self, name):
        return int(sum(self.samples.get(name, {}).values()))

    def view(self, **known):
        """What is known, with what the caller knows."""
        with self.lock:
            scrapes = list(self.scrapes)
            rates = [
                (after[1] - before[1]) / (after[0] - before[0])
                for before, after in zip(scrapes, scrapes[1:])
            ]
            trips = sorted(ms for _, ms in self.round_trips)
            first, last = (scrapes[0], scrapes[-1]) if scrapes else ((0, 0, {}, {}),) * 2
            # Alone, the first scrape is compared with the start, when all was 0.
            older = first if len(scrapes) > 1 else (0, 0, {}, {})

            def service(at):
                found = (histogram_percentile(share, last[at], older[at]) for share in PERCENTILES)
                return tuple(None if seconds is None else seconds * 1000 for seconds in found)

            recent = rates[-RATE_OVER_SECS:]
            return View(
                kinds=self.kinds(),
                alerts_total=self.total("verdict_alerts_total"),
                other_events=self.seen["other events"],
                decisions_a_second=sum(recent) / len(recent) if recent else 0,
                rates=tuple(rates),
                client=tuple(percentile(share, trips) for share in PERCENTILES),
                decide=service(2),
                end_to_end=service(3),
                alerts=self.alerts,
                notice=self.notice or (f"refused: {self.refusal}" if self.refusal else ""),
                **known,
            )
