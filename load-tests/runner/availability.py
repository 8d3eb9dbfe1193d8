"""`/v1/decide` on Kafka with PostgreSQL and Redis there, and with both stopped: held (SIGSTOP), then killed. One service for
all of it, which is never told; each round begins with both running, and what they missed is caught up before the next."""

import time

from . import machine, stack

from servers.postgres import Postgres  # noqa: E402, from where `stack` found the broker
from servers.redis import Redis  # noqa: E402

LEAST = 0.9
CATCH_UP_S = 300


def run(options, scratch):
    """Gives (results, markdown, faults)."""
    broker, postgres, redis = stack.broker(scratch), Postgres(scratch / "postgres", {}, tied=True), Redis(scratch / "redis", {}, tied=True)
    # Whoever runs PostgreSQL has to come by.
    scratch.chmod(0o755)
    both = (postgres, redis)
    try:
        for server in (broker, *both):
            server.start()
        more = {"VERDICT__POSTGRES__URL": postgres.details()["url"], "VERDICT__POSTGRES__MIGRATE": "true", "VERDICT__REDIS__URL": redis.details()["url"]}
        with stack.service(scratch, broker.details()["bootstrap_servers"], more=more) as service:
            stack.generate(options, service, run=0, seconds=stack.BROKER_WARMUP_S)
            rounds = [one_round(options, service, both, number) for number in range(options.rounds)]
    finally:
        for server in (*both, broker):
            server.stop()
            server.remove()
    results = {"rounds": rounds}
    return results, markdown(rounds), faults(rounds)


def one_round(options, service, both, number):
    """All three, in another order each time: the service slows down with what it remembers."""
    arms = ["running", "held", "killed"]
    arms = arms[number % 3 :] + arms[: number % 3]
    found = {}
    for place, arm in enumerate(arms):
        stop(both, arm)
        found[arm] = stack.generate(options, service, run=10 * number + place + 1)
        found[arm]["behind"] = max(behind(service).values(), default=0)
        go_on(both, arm)
        found[arm]["caught_up"] = caught_up(service)
        print(f"round {number + 1}, {arm}: {found[arm]['decisions_per_s']:,.0f}/s", flush=True)
    return found


def stop(both, arm):
    for server in both:
        if arm == "held":
            server.pause()
        elif arm == "killed":
            server.kill()


def go_on(both, arm):
    for server in both:
        if arm == "held":
            server.resume()
        elif arm == "killed":
            server.start()


def behind(service):
    """Records that each projection has not read."""
    return stack.labelled(service.text("/metrics"), "verdict_projection_lag_records")


def caught_up(service):
    """Whether every projection gets to the end."""
    until = time.monotonic() + CATCH_UP_S
    while time.monotonic() < until:
        lags = behind(service)
        if lags and not any(lags.values()):
            return True
        time.sleep(0.2)
    return False


def faults(rounds):
    """What makes the figures worthless."""
    found = []
    for number, run in enumerate(rounds, 1):
        for arm, result in run.items():
            found += stack.unsound(f"round {number}, {arm}", result["counts"])
            if not result["caught_up"]:
                found.append(f"round {number}, {arm}: expected every projection at the end within {CATCH_UP_S} s")
        for arm in ("held", "killed"):
            if run[arm]["behind"] == 0:
                found.append(f"round {number}, {arm}: expected a projection to fall behind, found none")
    return found


def markdown(rounds):
    """A section for REPORT.md."""
    lines = ["| PostgreSQL and Redis | `/v1/decide` a second | p50 ms | p99 ms |", "|---|---|---|---|"]
    for arm in ("running", "held", "killed"):
        rate = machine.spread(run[arm]["decisions_per_s"] for run in rounds)
        p50, p99 = (machine.spread(run[arm]["latency"][key] / 1e3 for run in rounds) for key in ("p50_us", "p99_us"))
        lines.append(f"| {arm} | {machine.shown(rate, '{:,.0f}')} | {machine.shown(p50)} | {machine.shown(p99)} |")
    lines.append("")
    for arm in ("held", "killed"):
        ratio = machine.spread(run[arm]["decisions_per_s"] / run["running"]["decisions_per_s"] for run in rounds)
        lines.append(f"- {arm} / running (at least {LEAST}): **{machine.shown(ratio)}** — {'met' if ratio['median'] >= LEAST else 'MISSED'}")
    return "\n".join(lines)
