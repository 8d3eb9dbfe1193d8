"""A terminal in memory, for the escape codes that the demo uses and no others: what would a person see now?"""

import codecs
import re

from .text import columns_of

BLANK = (" ", "")
ESCAPE = re.compile(r"\033\[(\??)([0-9;]*)([A-Za-z])")
# The longest that the demo sends; what is longer and still not whole is no escape code of its.
LONGEST_ESCAPE = 16


class Emulator:
    """Takes bytes of a pseudo-terminal. Cells are (text, style) with the style as in `ESC [ style m`."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.rest = ""
        self.normal, self.other = self.empty(), None
        self.last_screen = None  # the other screen as it stood when it was left
        self.row = self.column = 0
        self.kept_cursor = (0, 0)
        self.style = ""
        self.cursor_visible = self.wraps = True

    def empty(self):
        return [[BLANK] * self.columns for _ in range(self.rows)]

    @property
    def cells(self):
        return self.normal if self.other is None else self.other

    @property
    def restored(self):
        """As a program should leave it: the first screen, the cursor seen, lines that wrap, no style."""
        return self.other is None and self.cursor_visible and self.wraps and not self.style

    def text(self, cells=None):
        return ["".join(char for char, _ in row).rstrip() for row in cells or self.cells]

    def feed(self, data):
        text = self.rest + self.decoder.decode(data)
        at, self.rest = 0, ""
        while at < len(text):
            if text[at] != "\033":
                self.put(text[at])
                at += 1
                continue
            found = ESCAPE.match(text, at)
            if found:
                self.obey(*found.groups())
                at = found.end()
            elif len(text) - at < LONGEST_ESCAPE:
                self.rest = text[at:]
                return
            else:
                raise ValueError(f"expected an escape code that the demo uses, found {text[at:at + LONGEST_ESCAPE]!r}")

    def put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.line_feed()
        elif char < " " or "\x7f" <= char < "\xa0":
            raise ValueError(f"expected no control character, found {char!r}")
        elif columns_of(char) == 0:
            row, column = self.cells[self.row], max(0, self.column - 1)
            row[column] = (row[column][0] + char, row[column][1])
        else:
            self.write(char, columns_of(char))

    def write(self, char, columns):
        if self.column + columns > self.columns:
            if self.wraps:
                self.column = 0
                self.line_feed()
            else:
                self.column = self.columns - columns
        row = self.cells[self.row]
        row[self.column] = (char, self.style)
        # A wide character covers a second cell, which then has no text of its own.
        row[self.column + 1:self.column + columns] = [("", self.style)] * (columns - 1)
        self.column += columns

    def line_feed(self):
        if self.row + 1 < self.rows:
            self.row += 1
        else:
            self.cells.append([BLANK] * self.columns)
            del self.cells[0]

    def obey(self, private, numbers, code):
        if private and code in "hl":
            self.switch(numbers, code == "h")
        elif code == "m":
            self.style = "" if numbers in ("", "0") else numbers
        elif code == "H":
            row, _, column = numbers.partition(";")
            self.row = min(int(row or 1), self.rows) - 1
            self.column = min(int(column or 1), self.columns) - 1
        elif code == "K" and numbers in ("", "0"):
            self.cells[self.row][self.column:] = [BLANK] * (self.columns - self.column)
        elif code == "J" and numbers == "2":
            self.cells[:] = self.empty()
        else:
            raise ValueError(f"expected an escape code that the demo uses, found ESC [ {private}{numbers}{code}")

    def switch(self, mode, on):
        if mode == "1049" and on != (self.other is not None):
            if on:
                self.other, self.kept_cursor = self.empty(), (self.row, self.column)
            else:
                self.last_screen, self.other = self.other, None
                self.row, self.column = self.kept_cursor
        elif mode == "25":
            self.cursor_visible = on
        elif mode == "7":
            self.wraps = on
        elif mode != "1049":
            raise ValueError(f"expected a mode that the demo uses, found {mode}")
