"""Labelled feature rows: traffic from the simulator, features from the service, truth from the simulator.

It computes no feature. Features are cut to float32 here, because that is what the model's input is: a threshold then
splits the same rows in training and in the service.
"""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Rules are looked for where the service would look for them.
PROJECT = Path(__file__).resolve().parents[2]
# How often lists were hit says what people and rules have decided about a user before, not what the user did.
LEFT_OUT = {"block_list_hits", "allow_list_hits"}


@dataclass(frozen=True)
class Shape:
    """How much traffic: people, events, days of event time."""

    users: int
    events: int
    days: float


@dataclass(frozen=True)
class Dataset:
    """Rows in event-time order."""

    features: list[str]
    feature_schema: str
    matrix: np.ndarray  # float32, rows x features, NaN where a feature is absent
    exact: np.ndarray  # the same in float64, as the service printed them
    fraud: np.ndarray  # bool
    shape: Shape
    seed: int
    history_sha256: str


def build(binary: Path, shape: Shape, seed: int, work: Path) -> Dataset:
    """Generates traffic, lets the service compute its features, and joins them with the truth."""
    work = work.resolve()
    history, decisions = work.with_suffix(".ndjson"), work.with_suffix(".features.ndjson")
    print(f"traffic of seed {seed}: {shape.events} events of {shape.users} people over {shape.days:g} days", file=sys.stderr)
    with history.open("wb") as file:
        simulate = [binary, "simulate", "--with-truth", "--seed", seed, "--users", shape.users]
        simulate += ["--count", shape.events, "--days", shape.days]
        subprocess.run([str(word) for word in simulate], stdout=file, check=True)
    # `--model ""`: by rules alone, because this is what the first model comes from.
    backtest = [binary, "backtest", "--features", "--model", "", "--input", history, "--output", decisions]
    summary = subprocess.run([str(word) for word in backtest], stdout=subprocess.PIPE, check=True, cwd=PROJECT)
    check_summary(json.loads(summary.stdout.splitlines()[-1]))
    truth, sha256 = read_truth(history)
    return join(decisions, truth, shape, seed, sha256)


def check_summary(summary: dict) -> None:
    """Every line of simulated traffic is valid; a refused one is a fault of the simulator or of the service."""
    if any(summary.get("dead_letters", {}).values()):
        sys.exit(f"error: expected no dead letters, found {summary['dead_letters']}")


def read_truth(history: Path) -> tuple[dict[str, bool], str]:
    """Whether each transaction is fraud, and the hash of the whole history."""
    truth, sha256 = {}, hashlib.sha256()
    with history.open("rb") as lines:
        for line in lines:
            sha256.update(line)
            if b'"label_is_fraud"' in line:
                event = json.loads(line)
                truth[event["transaction_id"]] = event["label_is_fraud"]
    return truth, sha256.hexdigest()


def join(decisions: Path, truth: dict[str, bool], shape: Shape, seed: int, sha256: str) -> Dataset:
    """The features of each decision with the truth about it."""
    names: list[str] | None = None
    schemas, rows, fraud = set(), [], []
    with decisions.open("rb") as lines:
        for line in lines:
            decision = json.loads(line)
            if "features" not in decision:
                continue
            values = decision["features"]
            if names is None:
                names = [name for name in values if name not in LEFT_OUT]
            schemas.add(decision["feature_schema"])
            rows.append([float("nan") if values[name] is None else float(values[name]) for name in names])
            fraud.append(truth[decision["transaction_id"]])
    if names is None or len(schemas) != 1:
        sys.exit(f"error: expected decisions of one feature schema in {decisions}, found {len(schemas)} schemas")
    exact = np.array(rows, dtype=np.float64)
    return Dataset(names, schemas.pop(), exact.astype(np.float32), exact, np.array(fraud), shape, seed, sha256)
