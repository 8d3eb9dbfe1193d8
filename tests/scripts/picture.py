#!/usr/bin/env python3
"""Makes docs/demo.svg: runs the demo in a pseudo-terminal and draws the last screen that it showed.

`make picture` runs it. Nothing is staged: the figures are those of this machine, now.
"""

import argparse
import os
import sys
from pathlib import Path

from demo.recorded import Recorded
from demo.svg import picture

SCRIPTS = Path(__file__).resolve().parent
TITLE = "make demo: rate, latency, decisions by kind and the latest alerts with their reasons, from a real run"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, help="the verdict binary")
    parser.add_argument("--output", type=Path, default=SCRIPTS.parents[1] / "docs" / "demo.svg")
    parser.add_argument("--port", default="8080")
    parser.add_argument("--rate", default="200", help="events a second")
    parser.add_argument("--seconds", default="60")
    parser.add_argument("--columns", type=int, default=110)
    parser.add_argument("--rows", type=int, default=34)
    args = parser.parse_args()
    command = [sys.executable, str(SCRIPTS / "demo.py"), "--binary", args.binary]
    command += ["--port", args.port, "--rate", args.rate, "--seconds", args.seconds]
    environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with Recorded(command, args.columns, args.rows, environ | {"TERM": "xterm-256color"}) as run:
        status = run.finish()
    print("\n".join(line for line in run.screen.text() if line))
    if status or not run.screen.last_screen:
        sys.exit(f"error: expected the demo to show a live screen and to end with 0, it ended with {status}")
    args.output.write_text(picture(run.screen.last_screen, TITLE), encoding="utf-8")
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
