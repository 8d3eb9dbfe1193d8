"""The demo against the real binary, named by VERDICT_BINARY: in a pseudo-terminal, into a pipe, and when things go wrong."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.recorded import Recorded

SCRIPT = Path(__file__).resolve().parents[1] / "demo.py"
BINARY = os.environ["VERDICT_BINARY"]
ENVIRON = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes(port):
    """Command lines, by process id, of what the demo started on this port."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0") if folder.name.isdigit() else []
        except OSError:
            continue  # It has ended meanwhile.
        if any(f"127.0.0.1:{port}" in word for word in words):
            found[int(folder.name)] = words
    return found


def command(port, seconds, binary=BINARY):
    return [sys.executable, str(SCRIPT), "--binary", binary, "--port", str(port), "--seconds", str(seconds), "--rate", "100"]


def decided(lines):
    """The demo has counted decisions on its screen."""
    return any(" decisions, " in line and not line.strip().startswith("0 ") for line in lines)


class InATerminal(unittest.TestCase):
    def setUp(self):
        self.port = free_port()

    def run_in(self, columns, rows, seconds=0, environ=ENVIRON):
        return Recorded(command(self.port, seconds), columns, rows, environ)

    def assert_clean_end(self, run, before):
        self.assertTrue(run.screen.restored)
        self.assertEqual(run.keyboard(), before)
        self.assertEqual(processes(self.port), {})

    def test_a_run_ends_with_the_summary_and_leaves_nothing(self):
        with self.run_in(110, 34, seconds=4) as run:
            before = run.keyboard()
            run.until(decided)
            self.assertNotEqual(run.keyboard(), before, "what is typed is not shown")
            service = next(words for words in processes(self.port).values() if "serve" in words)
            folder = Path(service[service.index("--data-dir") + 1]).parent
            self.assertTrue(folder.exists())
            status = run.finish()
            self.assertEqual(status, 0, run.screen.text())
            self.assert_clean_end(run, before)
            self.assertFalse(folder.exists())
            screen = "\n".join(run.screen.text(run.screen.last_screen))
            for expected in (f"http://127.0.0.1:{self.port}", "p99", "approve", "demo-bob", "Geographic anomaly", "curl -s", "0:04 of 0:04"):
                self.assertIn(expected, screen)
            self.assertRegex(screen, r"client, /v1/decide +\d+\.\d+ ms")
            self.assertRegex("\n".join(run.screen.text()), r"\d+ decisions, \d+ alerts")
            self.assertIn(b"\x1b[32m", run.raw)

    def test_it_fits_a_window_that_changes_and_stops_at_ctrl_c(self):
        with self.run_in(110, 34, environ=ENVIRON | {"NO_COLOR": "1"}) as run:
            before = run.keyboard()
            run.until(decided)
            for columns, rows in ((80, 24), (30, 6), (120, 40)):
                run.resize(columns, rows)
                run.until(lambda lines: any(line.startswith("Verdict") for line in lines))
                run.until(lambda lines, tiny=rows < 18: any("expected" in line if tiny else "limit=3" in line for line in lines))
            run.press(b"\x03")
            self.assertEqual(run.finish(), 0, run.screen.text())
            self.assert_clean_end(run, before)
            self.assertNotRegex(run.raw, rb"\x1b\[[0-9;]*[1-9]m")

    def test_a_service_that_dies_is_reported(self):
        with self.run_in(80, 24) as run:
            before = run.keyboard()
            run.until(decided)
            os.kill(next(pid for pid, words in processes(self.port).items() if "serve" in words), signal.SIGKILL)
            self.assertEqual(run.finish(), 1)
            self.assert_clean_end(run, before)
            self.assertIn("error: the service was ended by signal 9", "\n".join(run.screen.text()))

    def test_a_dumb_terminal_gets_lines(self):
        with self.run_in(80, 24, seconds=2, environ=ENVIRON | {"TERM": "dumb"}) as run:
            self.assertEqual(run.finish(), 0)
            self.assertNotIn(b"\x1b", run.raw)


class IntoAPipe(unittest.TestCase):
    def ended(self, *args, **more):
        return subprocess.run(command(*args, **more), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)

    def test_lines_without_escape_codes_and_a_summary(self):
        port = free_port()
        run = self.ended(port, 3)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertNotIn("\x1b", run.stdout)
        for expected in ("A coffee:\napprove", "\nreview    demo-bob", "Geographic anomaly", "  curl -s"):
            self.assertIn(expected, run.stdout)
        self.assertRegex(run.stdout, r"\n\d+ decisions, \d+ alerts\nof the simulated traffic: \d+ approve.* \(the decisions include the demo's own payments\)\n")
        self.assertEqual(processes(port), {})

    def test_what_cannot_start_says_why(self):
        with socket.socket() as taken, tempfile.NamedTemporaryFile() as no_program:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for run, expected in [
                (self.ended(port, 1), f"error: port {port} cannot be had (Address already in use)"),
                (self.ended(free_port(), 1, binary="/no/verdict"), "error: cannot run /no/verdict: No such file or directory"),
                (self.ended(free_port(), 1, binary=no_program.name), "Permission denied"),
                (self.ended(free_port(), 1, binary="/bin/false"), "error: the service ended with 1"),
                (self.ended(70_000, 1), "error: port: expected 1 to 65535, found 70000"),
            ]:
                self.assertEqual(run.returncode, 1)
                self.assertIn(expected, run.stderr)
                self.assertNotIn("Traceback", run.stderr)


if __name__ == "__main__":
    unittest.main()
