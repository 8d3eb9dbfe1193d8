"""Text for a terminal: made harmless, measured in columns, cut to a width, painted. Knows nothing of what it says."""

import unicodedata

COLOURS = {"approve": "32", "challenge": "36", "review": "33", "block": "1;31", "strong": "1", "faint": "90", "plain": ""}
# Full blocks by eighths, from the left and from the bottom; and what stands for them where no Unicode is.
BAR_EIGHTHS = " ▏▎▍▌▋▊▉█"
SPARK_EIGHTHS = " ▁▂▃▄▅▆▇█"
BAR_ASCII = "#"
SPARK_ASCII = " .:-=+*#%"


def clean(text):
    """The text without whatever could move a cursor, hide or reverse: controls, formats, surrogates, line ends."""
    spaced = " ".join(str(text).split())
    return "".join(c for c in spaced if unicodedata.category(c)[0] != "C" and unicodedata.category(c) not in ("Zl", "Zp"))


def columns_of(char):
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text):
    return sum(columns_of(char) for char in text)


def cut(text, columns, mark="…"):
    """The text, shortened to so many columns; the mark says that something is missing."""
    if width(text) <= columns:
        return text
    kept, used = [], width(mark)
    for char in text:
        used += columns_of(char)
        if used > columns:
            break
        kept.append(char)
    return ("".join(kept) + mark) if columns >= width(mark) else ""


def left(text, columns, mark="…"):
    text = cut(text, columns, mark)
    return text + " " * (columns - width(text))


def right(text, columns, mark="…"):
    text = cut(text, columns, mark)
    return " " * (columns - width(text)) + text


def bar(share, columns, unicode=True):
    """A bar of share * columns, at least a sliver when there is anything."""
    if share <= 0 or columns <= 0:
        return ""
    if not unicode:
        return BAR_ASCII * max(1, round(min(share, 1) * columns))
    eighths = max(1, round(min(share, 1) * columns * 8))
    whole, rest = divmod(eighths, 8)
    return BAR_EIGHTHS[8] * whole + (BAR_EIGHTHS[rest] if rest else "")


def spark(values, columns, unicode=True):
    """The last values as a row of little columns, the highest of them full; one that is not 0 is never blank."""
    steps = SPARK_EIGHTHS if unicode else SPARK_ASCII
    values = list(values)[-columns:] if columns > 0 else []
    most = max(values, default=0)
    return "".join(steps[max(1, round(value / most * 8))] if value > 0 else steps[0] for value in values)


def fit(line, columns, mark="…"):
    """A line of (text, style) pieces, cut to the width."""
    fitted = []
    for text, style in line:
        if width(text) > columns:
            text = cut(text, columns, mark)
            fitted.append((text, style))
            break
        columns -= width(text)
        fitted.append((text, style))
    return fitted


def plain(line):
    return "".join(text for text, _ in line)


def paint(line, colour):
    """The line as a terminal takes it; without colour it is the text alone."""
    if not colour:
        return plain(line)
    return "".join(f"\033[{COLOURS[style]}m{text}\033[0m" if COLOURS[style] else text for text, style in line)


def grouped(number):
    return f"{int(number):,}"


def clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def milliseconds(value):
    """A time in ms with as many decimals as mean something; a dash when there is none."""
    if value is None:
        return "-"
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"
