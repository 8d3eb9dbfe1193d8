"""Runs a program in a pseudo-terminal and keeps what it shows, as a person at a terminal of that size would see it."""

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time

from .emulator import Emulator

# Of a program that hangs: it is asked to end then, and killed if it does not.
PATIENCE_SECS = 120
LAST_PATIENCE_SECS = 20


class Recorded:
    """A context: a running program, its screen so far, and after `finish` its exit status."""

    def __init__(self, command, columns, rows, environ):
        self.screen = Emulator(columns, rows)
        self.raw = b""
        self.status = None
        self.late = False
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            # Of the sizes that a program may ask for, this one is what the terminal itself says.
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            try:
                os.execvpe(command[0], command, environ)
            finally:
                os._exit(127)
        self.deadline = time.monotonic() + PATIENCE_SECS

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            if not self.late:
                os.kill(self.pid, signal.SIGTERM)
            self.finish()
        os.close(self.master)

    def resize(self, columns, rows):
        """The terminal becomes another, empty one, as far as a program that draws all of it anew can tell."""
        resized = Emulator(columns, rows)
        resized.other, resized.last_screen = self.screen.other and resized.empty(), self.screen.last_screen
        resized.wraps, resized.cursor_visible = self.screen.wraps, self.screen.cursor_visible
        resized.decoder, resized.rest = self.screen.decoder, self.screen.rest
        self.screen = resized
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, wait_secs=0.1):
        """Takes what there is; False when the program has closed its terminal."""
        if time.monotonic() > self.deadline:
            os.kill(self.pid, signal.SIGKILL if self.late else signal.SIGTERM)
            self.late, self.deadline = True, time.monotonic() + LAST_PATIENCE_SECS
            raise TimeoutError(f"no end in {PATIENCE_SECS} s; it showed:\n" + "\n".join(self.screen.text()))
        if not select.select([self.master], [], [], wait_secs)[0]:
            return True
        try:
            data = os.read(self.master, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        self.raw += data
        self.screen.feed(data)
        return bool(data)

    def until(self, condition):
        """Reads until the condition over the screen's lines holds."""
        while not condition(self.screen.text()):
            if not self.read():
                raise EOFError("it ended too early; it showed:\n" + "\n".join(self.screen.text()))

    def keyboard(self):
        """The terminal's settings, as stty would show them."""
        return termios.tcgetattr(self.master)

    def press(self, keys):
        os.write(self.master, keys)

    def finish(self):
        """Reads to the end; gives the exit status, negative for a signal."""
        while self.read():
            pass
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status
