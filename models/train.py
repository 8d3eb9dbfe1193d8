#!/usr/bin/env python3
"""Trains, checks and ships a fraud model, in one command: `python3 models/train.py`, or `make train`.

Traffic with known fraud comes from `verdict simulate`, features from `verdict backtest --features`: what a feature
means is written down once, in the service. The model is trained with LightGBM, exported to ONNX, compared with its
export row by row, judged on traffic of another seed, and written to models/NAME/ with manifest, golden rows and card.

Needs Python 3.11 or later and a release build of the service (built if it is missing). The first run makes a virtual
environment in models/.venv with the pinned packages of requirements.txt and goes on inside it.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

MODELS = Path(__file__).resolve().parent
PROJECT = MODELS.parent
VENV = MODELS / ".venv"
REQUIREMENTS = MODELS / "requirements.txt"


def enter_virtual_environment() -> None:
    """Starts this script again inside models/.venv, made or brought up to date first."""
    if sys.version_info < (3, 11):
        sys.exit(f"error: expected Python 3.11 or later, found {sys.version.split()[0]}")
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    python = VENV / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp = VENV / "requirements.sha256"
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"installing the packages of {REQUIREMENTS} into {VENV}", file=sys.stderr)
        try:
            venv.create(VENV, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("error: expected a Python that can make virtual environments; on Debian: apt-get install python3-venv")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    os.execv(python, [str(python), *sys.argv])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--name", default="default", help="name of the model and of its folder [%(default)s]")
    parser.add_argument("--version", default="2", help="version in the manifest [%(default)s]")
    parser.add_argument("--output", type=Path, help="folder to write [models/NAME]")
    parser.add_argument("--verdict", type=Path, help="the service's binary [target/release/verdict, built if missing]")
    parser.add_argument("--work", type=Path, default=MODELS / "build", help="folder for traffic and features [%(default)s]")
    parser.add_argument("--seed", type=int, default=11, help="seed of the training traffic and of LightGBM [%(default)s]")
    parser.add_argument("--test-seed", type=int, default=12, help="seed of the traffic that judges [%(default)s]")
    parser.add_argument("--events", type=int, default=650_000, help="events of the training traffic [%(default)s]")
    parser.add_argument("--users", type=int, default=4_500, help="people of the training traffic [%(default)s]")
    parser.add_argument("--days", type=float, default=60.0, help="days of the training traffic [%(default)s]")
    return parser.parse_args()


def release_binary() -> Path:
    binary = PROJECT / "target" / "release" / "verdict"
    if not binary.is_file():
        print("building the service (a few minutes the first time)", file=sys.stderr)
        subprocess.run(["cargo", "build", "--release", "--package", "verdict"], cwd=PROJECT, check=True)
    return binary


def main() -> None:
    args = arguments()
    if args.seed == args.test_seed:
        sys.exit("error: expected --test-seed to differ from --seed: a model must not be judged on what it has seen")
    from training import dataset, evaluate, export, fit, publish

    binary = (args.verdict or release_binary()).resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    shape = dataset.Shape(users=args.users, events=args.events, days=args.days)
    train = dataset.build(binary, shape, args.seed, args.work / "train")
    # Half as much is enough to judge by, with as many days, so that the longest windows fill up here too.
    half = dataset.Shape(users=args.users // 2, events=args.events // 2, days=args.days)
    test = dataset.build(binary, half, args.test_seed, args.work / "test")

    booster = fit.train(train, args.seed)
    model = export.to_onnx(booster, train.features)
    difference = export.greatest_difference(booster, model, test.matrix)
    print(f"ONNX against LightGBM: greatest difference of a score {difference:.2e}", file=sys.stderr)
    if difference > export.TOLERANCE:
        sys.exit(f"error: expected a difference of at most {export.TOLERANCE}, found {difference}; nothing was written")

    scores = export.score(model, test.matrix)
    report = evaluate.judge(test, scores)
    output = args.output or MODELS / args.name
    trees = booster.num_trees()
    publish.write(output, publish.Shipment(args.name, args.version, model, train, test, scores, report, trees, difference))
    print(evaluate.summary(report), file=sys.stderr)
    print(f"wrote {output}", file=sys.stderr)


if __name__ == "__main__":
    enter_virtual_environment()
    main()
