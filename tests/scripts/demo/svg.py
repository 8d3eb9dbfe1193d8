"""A screen as an SVG picture: text in its colours on a dark window of its own, so that it suits light and dark pages."""

import re
from html import escape

from .text import BAR_EIGHTHS, SPARK_EIGHTHS

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE = 8.4, 19, 14
PADDING = 18
BASELINE = 14
PAPER, EDGE, INK = "#0d1117", "#3d444d", "#d1d7e0"
# Stands for the second cell of a wide character while columns are counted.
COVERED = "\0"
# By the number in `ESC [ number m`.
COLOURS = {"31": "#ff7b72", "32": "#57c964", "33": "#e3b341", "36": "#56d4dd", "90": "#9198a1"}
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


def number(value):
    return f"{value:.2f}".rstrip("0").rstrip(".")


def appearance(style):
    """Colour and boldness of a style."""
    codes = style.split(";")
    return next((COLOURS[code] for code in codes if code in COLOURS), INK), "1" in codes


def block(char, x, y):
    """A block character as a rectangle, so that bars are whole in every font; None for any other character."""
    if char in BAR_EIGHTHS[1:]:
        share = BAR_EIGHTHS.index(char) / 8
        return x, y + 3, share * CELL_WIDTH, CELL_HEIGHT - 6
    if char in SPARK_EIGHTHS[1:]:
        height = SPARK_EIGHTHS.index(char) / 8 * (CELL_HEIGHT - 3)
        return x + 0.7, y + CELL_HEIGHT - 1.5 - height, CELL_WIDTH - 1.4, height
    return None


def runs(row):
    """Words of one style with single blanks between them: (first column, text, columns, style).

    More than one blank parts two runs, since whoever draws the picture may take several for one.
    """
    column, found = 0, []
    while column < len(row):
        style, start = row[column][1], column
        while column < len(row) and row[column][1] == style:
            column += 1
        text = "".join(char or COVERED for char, _ in row[start:column])
        for words in re.finditer(r"[^ ]+(?: [^ ]+)*", text):
            shown = words.group().replace(COVERED, "")
            found.append((start + words.start(), shown, words.end() - words.start(), style))
    return found


def merged(shapes):
    """Full blocks that touch become one."""
    whole = []
    for x, y, width, height in shapes:
        if whole and abs(whole[-1][0] + whole[-1][2] - x) < 0.01 and whole[-1][1] == y and whole[-1][3] == height:
            whole[-1] = (whole[-1][0], y, whole[-1][2] + width, height)
        else:
            whole.append((x, y, width, height))
    return whole


def run_elements(row, start, text, columns, style):
    colour, bold = appearance(style)
    x, y = PADDING + start * CELL_WIDTH, PADDING + row * CELL_HEIGHT
    shapes = [block(char, x + at * CELL_WIDTH, y) for at, char in enumerate(text)]
    # A run with a wide character has fewer characters than columns; its blocks, of which the demo has none, stay text.
    if len(text) == columns and all(shape or char == " " for shape, char in zip(shapes, text)):
        for rect in merged([shape for shape in shapes if shape]):
            left, top, wide, high = (number(value) for value in rect)
            yield f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="{colour}"/>'
        return
    weight = ' font-weight="bold"' if bold else ""
    # The length keeps columns in line whatever font the reader has.
    fixed = f'textLength="{number(columns * CELL_WIDTH)}" lengthAdjust="spacingAndGlyphs"'
    yield f'<text x="{number(x)}" y="{number(y + BASELINE)}" fill="{colour}"{weight} {fixed}>{escape(text)}</text>'


def picture(cells, title):
    """The whole SVG document."""
    wide = number(len(cells[0]) * CELL_WIDTH + 2 * PADDING)
    high = number(len(cells) * CELL_HEIGHT + 2 * PADDING)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect x="0.5" y="0.5" width="{number(float(wide) - 1)}" height="{number(float(high) - 1)}" rx="8" '
        f'fill="{PAPER}" stroke="{EDGE}"/>',
        f'<g font-family="{FONT}" font-size="{FONT_SIZE}">',
    ]
    for row, line in enumerate(cells):
        for run in runs(line):
            lines += run_elements(row, *run)
    return "\n".join([*lines, "</g>", "</svg>", ""])
