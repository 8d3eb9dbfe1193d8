#!/usr/bin/env python3
"""Kafka, PostgreSQL and Redis on this machine, for tests and for trying things out, without containers.

    servers.py setup                    install what lacks (as root), fetch Kafka
    servers.py up   [--folder FOLDER]   start all three, or what of them is not running; print where they are
    servers.py down [--folder FOLDER]   stop them; the data stays
    servers.py attend KIND OPTIONS      run one in a folder of its own, steered over stdin, until stdin ends
"""

import argparse
import json
import sys
from pathlib import Path

from servers import Trouble, attend, local, provision

FOLDER = Path(__file__).resolve().parents[2] / ".servers"


def arguments():
    parser = argparse.ArgumentParser(description="Kafka, PostgreSQL and Redis on this machine")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="install what lacks (as root), fetch Kafka")
    for name, text in [("up", "start what is not running"), ("down", "stop all; the data stays")]:
        commands.add_parser(name, help=text).add_argument("--folder", type=Path, default=FOLDER)
    attended = commands.add_parser("attend", help="run one until stdin ends")
    attended.add_argument("kind", choices=attend.KINDS)
    attended.add_argument("options", type=json.loads)
    return parser.parse_args()


def main():
    args = arguments()
    try:
        if args.command == "setup":
            provision.setup()
        elif args.command == "up":
            local.up(args.folder.resolve())
        elif args.command == "down":
            local.down(args.folder.resolve())
        else:
            attend.attend(args.kind, args.options)
    except Trouble as trouble:
        sys.exit(f"error: {trouble}")


if __name__ == "__main__":
    main()
