#!/usr/bin/env python3
"""The demo: a service on this machine, three payments with a story, then simulated traffic with fraud in it.

On a terminal a live screen, elsewhere plain lines. Stops at Ctrl-C, or after --seconds, with a summary. Everything it
stores is in a folder that it removes.
"""

import argparse
import os
import signal
import sys
import time

from demo import terminal
from demo.backend import FRAUD_PERCENT, Backend, Failure
from demo.figures import Figures
from demo.lines import Lines, summarise
from demo.screen import render

REDRAW_EVERY_SECS = 0.25


def interrupt(_signal, _frame):
    # Kept as well as raised: what is raised while Python runs a destructor is printed and forgotten.
    Demo.interrupted = True
    raise KeyboardInterrupt


class Demo:
    interrupted = False

    def __init__(self, args):
        self.args = args
        self.figures = Figures()
        self.backend = Backend(args.binary, args.port, args.rate, self.figures)
        self.started = time.monotonic()

    def view(self):
        elapsed = time.monotonic() - self.started
        known = {"url": self.backend.url, "rate": self.args.rate, "fraud": FRAUD_PERCENT}
        return self.figures.view(elapsed_secs=elapsed, limit_secs=self.args.seconds, **known)

    def run(self):
        colour = terminal.coloured(os.environ)
        if not (terminal.capable(os.environ) and terminal.roomy()):
            lines = Lines(colour)
            self.backend.serve()
            lines.introduce(self.backend, self.args.rate, self.args.seconds)
            self.backend.on_answer = lines.show_some
            self.watch(lambda: None)
        else:
            print("Starting the service ...", flush=True)
            self.backend.serve()
            with terminal.Terminal(colour) as screen:
                unicode = terminal.unicode()

                def draw():
                    size = terminal.size()
                    screen.draw(render(self.view(), *size, unicode), size)

                draw()
                for _story in self.backend.stories():
                    pass
                self.watch(draw)
        self.backend.halt()
        self.summarise()

    def watch(self, draw):
        """Traffic until the time is over or somebody interrupts it."""
        self.started = time.monotonic()
        try:
            self.backend.simulate()
            while not self.interrupted and (not self.args.seconds or time.monotonic() - self.started < self.args.seconds):
                draw()
                self.backend.check()
                time.sleep(REDRAW_EVERY_SECS)
            draw()
        except KeyboardInterrupt:
            pass

    def summarise(self):
        if not self.backend.scrape():
            self.backend.check()
            raise Failure("the service did not tell its figures")
        view = self.view()
        summarise(view, self.figures)
        if not sum(view.kinds.values()):
            raise Failure("the service decided nothing")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, help="the verdict binary")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--rate", type=float, default=200, help="events a second")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long; 0 runs until Ctrl-C")
    return parser.parse_args()


def main():
    args = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    demo = None
    try:
        demo = Demo(args)
        demo.run()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except BrokenPipeError:
        # The reader went away (`| head`); nor is there anybody to tell what Python would say at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # Nothing interrupts the end, lest a process stay behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if demo:
            demo.backend.close()


if __name__ == "__main__":
    main()
