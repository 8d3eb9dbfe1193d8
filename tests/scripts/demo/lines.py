"""The demo as lines that scroll by: for a pipe, a small or a dumb terminal; and the summary, which every run ends with."""

import time

from .figures import PERCENTILES
from .screen import commands
from .text import clean, left, milliseconds, paint

SECONDS_BETWEEN_APPROVALS = 0.5


class Lines:
    """Every alert, and an approval now and then."""

    def __init__(self, colour):
        self.colour = colour
        self.next_approval = 0.0

    def introduce(self, backend, rate, seconds):
        print(f"The service listens on {backend.url}\n")
        for story, answer in backend.stories():
            print(story)
            self.show(answer)
        print("\nTry it from another terminal:")
        for command in commands(backend.url):
            print(f"  {command}")
        until = f", for {seconds:g} s" if seconds else "; Ctrl-C stops"
        print(f"\nSimulated customers and a few criminals, {rate:g} events a second{until}.")
        print("Shown: every alert, and an approval now and then.", flush=True)

    def show_some(self, answer):
        """Everything but approvals, and of those as many as a person can read."""
        if "decision" not in answer:
            return
        if answer["decision"] == "approve":
            now = time.monotonic()
            if now < self.next_approval:
                return
            self.next_approval = now + SECONDS_BETWEEN_APPROVALS
        self.show(answer)

    def show(self, answer):
        reasons = clean("; ".join(reason["message"] for reason in answer.get("reasons", [])))
        score, took = answer.get("score"), answer.get("latency_us", 0) / 1000
        known = "score   -  " if score is None else f"score {score:.3f}"
        kind = clean(answer["decision"])
        decision = paint([(left(kind, 9), kind if kind in ("approve", "challenge", "review", "block") else "plain")], self.colour)
        print(f"{decision} {left(clean(answer['user_id']), 12)} {known} {took:6.2f} ms  {reasons}", flush=True)


def summarise(view, figures):
    """What happened, in a few lines; the counts are the service's own."""
    decided = sum(view.kinds.values())
    shares = ", ".join(f"{count} {name}" for name, count in sorted(figures.seen.items()))
    print(f"\n{decided} decisions, {view.alerts_total} alerts")
    print(f"of the simulated traffic: {shares or 'nothing'} (the decisions include the demo's own payments)")
    for who, latencies in (("client", view.client), ("service, to the decision", view.decide)):
        if latencies[0] is not None:
            known = ", ".join(f"p{share * 100:g} {milliseconds(ms)}" for share, ms in zip(PERCENTILES, latencies))
            print(f"latency, {who}: {known}")
    if figures.refusal:
        print(f"the first refusal: {clean(figures.refusal)}")
