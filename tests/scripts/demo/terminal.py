"""The terminal as a screen of its own: entered, drawn where it changed, and given back whatever happens."""

import os
import signal
import sys
import termios

from .text import paint

# Below this, plain lines serve better.
LIVE_COLUMNS, LIVE_ROWS = 78, 22
# The other screen, no cursor, no wrapping of a line that a shrinking window cuts; and all of it back.
ENTER = "\033[?1049h\033[?25l\033[?7l\033[2J"
LEAVE = "\033[0m\033[?7h\033[?25h\033[?1049l"


def size():
    """Columns and rows; a terminal that does not know its own is taken for 80x24."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return columns or 80, rows or 24


def capable(environ):
    return sys.stdout.isatty() and environ.get("TERM", "dumb") not in ("", "dumb")


def roomy():
    columns, rows = size()
    return columns >= LIVE_COLUMNS and rows >= LIVE_ROWS


def coloured(environ):
    """https://no-color.org: any value but the empty one means no colour."""
    return capable(environ) and not environ.get("NO_COLOR")


def unicode():
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


class Terminal:
    """A context. What it changes it changes back on leaving, on Ctrl-Z (and again on return), and on any exception."""

    def __init__(self, colour):
        self.colour = colour
        self.drawn = ()
        self.drawn_size = None
        self.keyboard = None
        self.suspended_by = None

    def __enter__(self):
        self.enter()
        self.suspended_by = signal.signal(signal.SIGTSTP, self.suspend)
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGTSTP, self.suspended_by)
        self.leave()

    def enter(self):
        if sys.stdin.isatty():
            self.keyboard = termios.tcgetattr(sys.stdin)
            quiet = termios.tcgetattr(sys.stdin)
            # What is typed would stand in the middle of the screen.
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            self.set_keyboard(quiet)
        self.drawn_size = None
        self.write(ENTER)

    def leave(self):
        try:
            self.write(LEAVE)
        except OSError:
            pass  # The terminal is gone; there is nothing to give back.
        if self.keyboard:
            self.set_keyboard(self.keyboard)
            self.keyboard = None

    def suspend(self, _signal, _frame):
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()

    def set_keyboard(self, mode):
        # In the background, and when the terminal is gone, it cannot be set.
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, mode)
        except termios.error:
            pass
        finally:
            signal.signal(signal.SIGTTOU, before)

    def draw(self, lines, at_size):
        """Writes the lines that differ from what stands there, in one write, so that nothing flickers or loses a selection."""
        painted = tuple(paint(line, self.colour) for line in lines)
        parts = []
        if at_size != self.drawn_size:
            parts.append("\033[2J")
            self.drawn = ("",) * len(painted)
        for row, (new, old) in enumerate(zip(painted, self.drawn), 1):
            if new != old:
                parts.append(f"\033[{row};1H\033[K{new}")
        self.drawn, self.drawn_size = painted, at_size
        if parts:
            self.write("".join(parts))

    @staticmethod
    def write(text):
        sys.stdout.write(text)
        sys.stdout.flush()
