"""The live screen as a pure function: a view and a size give lines of (text, style) pieces, never wider or more than fit."""

from .figures import KINDS
from .text import bar, clean, clock, fit, grouped, left, milliseconds, right, spark, width

# Smaller than this a screen shows only the totals.
MIN_COLUMNS, MIN_ROWS = 60, 18
TIME, USER, AMOUNT, DECISION, SCORE = 8, 12, 14, 9, 5
REASON_AT = 1 + TIME + 1 + USER + 1 + AMOUNT + 2 + DECISION + 1 + SCORE + 2
LABEL = 25
# A payment over the daily limit and what became of it. No line is wider than 78 columns, so that each can be copied whole.
COMMANDS = """\
curl -s {host}/v1/decide -H content-type:application/json -d '{{
  "transaction_id":"t-'$(date +%s)'", "user_id":"u-1", "amount":"6000.00",
  "currency":"USD", "merchant_id":"m-1", "timestamp":"'$(date -u +%FT%TZ)'"}}'
curl -s {host}/v1/users/u-1/profile
curl -s '{host}/v1/alerts?limit=3'"""


def commands(url):
    return COMMANDS.format(host=url.removeprefix("http://")).splitlines()


def render(view, columns, rows, unicode=True):
    """Exactly `rows` lines, the commands on the last of them."""
    mark = "…" if unicode else "~"
    if columns < MIN_COLUMNS or rows < MIN_ROWS:
        lines = small(view, columns, rows)
    else:
        roomy = rows >= 28
        top = title(view, columns) + gap(roomy) + rate(view, columns, unicode) + gap(True)
        top += latency(view, columns, unicode) + gap(True) + decisions(view, columns, unicode) + gap(roomy)
        bottom = [[("Try it from another terminal:", "strong")]] if rows >= 22 else []
        bottom += [[(line, "plain")] for line in commands(view.url)]
        space = rows - len(top) - len(bottom)
        middle = alerts(view, columns, space - 1 if roomy else space, mark)
        middle += [[]] * (space - len(middle))
        lines = top + middle + bottom
    return [fit(line, columns, mark) for line in lines[:rows]] + [[]] * (rows - len(lines))


def gap(wanted):
    return [[]] if wanted else []


def small(view, columns, rows):
    total = sum(view.kinds.values())
    lines = [[("Verdict ", "strong"), (view.url, "plain")]]
    lines += [[(f"{grouped(total)} decisions, {grouped(view.alerts_total)} alerts", "plain")]]
    lines += [[(f"{view.decisions_a_second:,.0f} decisions/s", "plain")]]
    return lines + [[(f"expected {MIN_COLUMNS}x{MIN_ROWS} or more for the rest, found {columns}x{rows}", "faint")]]


def title(view, columns):
    spent = clock(view.elapsed_secs)
    spent += f" of {clock(view.limit_secs)}" if view.limit_secs else ""
    spent += "  Ctrl-C stops"
    head = [("Verdict", "strong"), (f"  {view.url}", "plain")]
    what = f"  {view.rate:g} simulated events/s, {view.fraud} % fraud"
    used = sum(width(text) for text, _ in head)
    if used + width(what) + 2 + width(spent) <= columns:
        head.append((what, "faint"))
        used += width(what)
    return [head + [(" " * max(2, columns - used - width(spent)), "plain"), (spent, "faint")]]


def rate(view, columns, unicode):
    total = sum(view.kinds.values())
    figure = right(f"{view.decisions_a_second:,.0f}/s", 9)
    drawn = spark(view.rates, min(60, columns - 28), unicode)
    first = [("Decisions", "strong"), (figure, "strong"), ("  ", "plain"), (drawn, "approve")]
    if columns >= 100:
        first.append(("  last minute", "faint"))
    counts = f"{grouped(total)} decisions, {grouped(view.alerts_total)} alerts"
    lines = [first, [(" " * 20, "plain"), (counts, "plain"), (f", {grouped(view.other_events)} logins and reports", "faint")]]
    if view.notice:
        lines.append([(clean(view.notice), "review")])
    return lines


def latency(view, columns, unicode):
    rows = [
        ("client, /v1/decide", view.client, "round trip, durable"),
        ("service, to the decision", view.decide, "verdict_decide_seconds"),
        ("service, until durable", view.end_to_end, "verdict_end_to_end_seconds"),
    ]
    heads = "".join(right(name, 9) for name in ("p50", "p95", "p99"))
    lines = [[(left("Latency", LABEL), "strong"), (heads, "faint"), ("  last minute", "faint")]]
    for name, figures, source in rows:
        values = "".join(right(milliseconds(value), 9) for value in figures)
        lines.append([(left(name, LABEL), "plain"), (values, "strong"), (f"  {source}", "faint")])
    return lines


def decisions(view, columns, unicode):
    total = sum(view.kinds.values())
    lines = []
    for kind in (*KINDS, *(kind for kind in view.kinds if kind not in KINDS)):
        count = view.kinds.get(kind, 0)
        share = count / total if total else 0
        style = kind if kind in KINDS else "plain"
        figures = right(grouped(count), 11) + right(f"{share * 100:.1f} %", 9) + "  "
        drawn = bar(share, min(60, columns - 33), unicode)
        lines.append([(left(clean(kind), DECISION + 1), style), (figures, "plain"), (drawn, style)])
    return lines


def alerts(view, columns, space, mark):
    """Newest first; each further reason of an alert on a line of its own where there is room for it."""
    if space <= 0:
        return []
    lines = [[("Latest alerts", "strong"), (" (UTC)", "faint")]]
    if not view.alerts:
        lines.append([("none yet", "faint")])
    several = space >= 8
    for alert in view.alerts:
        if len(lines) >= space:
            break
        reasons = [clean(reason.get("message", "")) for reason in alert.get("reasons", [])] or [""]
        if not several:
            reasons = ["; ".join(reasons)]
        lines.append(alert_line(alert, reasons[0], mark))
        lines += [[(" " * REASON_AT + reason, "faint")] for reason in reasons[1:]]
    return lines[:space]


def alert_line(alert, reason, mark):
    when = clean(alert.get("detected_at", ""))[11:19]
    decision = clean(alert.get("decision", ""))
    amount = f"{money(clean(alert.get('amount', '')))} {clean(alert.get('currency', ''))}"
    score = alert.get("score")
    known = f"{score:.3f}" if isinstance(score, (int, float)) else "-"
    head = f" {left(when, TIME, mark)} {left(clean(alert.get('user_id', '')), USER, mark)} {right(amount, AMOUNT, mark)}  "
    style = decision if decision in KINDS else "plain"
    figure = f" {right(known, SCORE)}  "
    return [(head, "plain"), (left(decision, DECISION, mark), style), (figure, "plain"), (reason, "plain")]


def money(amount):
    whole, point, rest = amount.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.isascii() and whole.isdigit() else amount
