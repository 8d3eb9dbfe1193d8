"""What is shipped: model.onnx, manifest.json, golden.csv and CARD.md, written together or not at all."""

import csv
import hashlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .dataset import Dataset
from .evaluate import BANDS
from .export import OUTPUT

GOLDEN_ROWS = 2_000
# A score this close to a threshold could fall on its other side within the tolerance that the gate allows.
MARGIN = 1e-5


@dataclass(frozen=True)
class Shipment:
    """Everything that the files are made of."""

    name: str
    version: str
    model: bytes
    train: Dataset
    test: Dataset
    scores: np.ndarray
    report: dict
    trees: int
    difference: float


def write(output: Path, shipment: Shipment) -> None:
    """Writes the four files into a fresh folder, then puts it in place of the old one."""
    draft = output.with_name(f".{output.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    (draft / "model.onnx").write_bytes(shipment.model)
    (draft / "manifest.json").write_text(json.dumps(manifest(shipment), indent=2) + "\n")
    (draft / "golden.csv").write_text(golden(shipment))
    (draft / "CARD.md").write_text(card(shipment))
    if output.exists():
        shutil.rmtree(output)
    draft.rename(output)


def manifest(shipment: Shipment) -> dict:
    train, test = shipment.train, shipment.test
    return {
        "name": shipment.name,
        "version": shipment.version,
        "sha256": hashlib.sha256(shipment.model).hexdigest(),
        "output": OUTPUT,
        "feature_schema": train.feature_schema,
        "features": train.features,
        "bands": [{"above": above, "outcome": outcome} for above, outcome in BANDS],
        "training": source(train) | {"trees": shipment.trees},
        "metrics": source(test) | rounded(shipment.report),
    }


def source(data: Dataset) -> dict:
    """Where rows come from; enough to make them again."""
    shape = {"users": data.shape.users, "events": data.shape.events, "days": data.shape.days}
    origin = {"traffic": "verdict simulate", "seed": data.seed, "history_sha256": data.history_sha256}
    return origin | shape | {"rows": len(data.fraud), "fraud": int(data.fraud.sum())}


def rounded(value: object) -> object:
    """Six digits say enough."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return value


def outcome(score: np.float32) -> str:
    """Compared as the service does: 0.8 as the model gives it is a little above the double 0.8, and not above 0.8."""
    return next((name for above, name in BANDS if np.float32(score) > np.float32(above)), "approve")


def golden(shipment: Shipment) -> str:
    """Rows of the test traffic, as many as possible from where scores are rare, with what the service must answer."""
    data, scores = shipment.test, shipment.scores
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*data.features, "expected_score", "expected_decision"])
    for row in golden_rows(scores):
        # repr gives the shortest text that reads back as the same number.
        fields = ["" if np.isnan(value) else repr(float(value)) for value in data.exact[row]]
        writer.writerow([*fields, str(scores[row]), outcome(scores[row])])
    return out.getvalue()


def golden_rows(scores: np.ndarray) -> np.ndarray:
    """Indices spread over the range of scores: equally many from each tenth, where there are enough."""
    clear = np.ones(len(scores), dtype=bool)
    for above, _ in BANDS:
        clear &= np.abs(scores - above) > MARGIN
    random = np.random.default_rng(0)
    tenths = np.minimum((scores * 10).astype(int), 9)
    chosen: list[int] = []
    # The emptiest tenths first; what they cannot give, the fuller ones do.
    pools = sorted((np.flatnonzero(clear & (tenths == tenth)) for tenth in range(10)), key=len)
    for left, pool in zip(range(10, 0, -1), pools):
        share = (GOLDEN_ROWS - len(chosen)) // left
        chosen.extend(random.choice(pool, min(share, len(pool)), replace=False))
    return np.sort(np.array(chosen))


def card(shipment: Shipment) -> str:
    report, train, test = shipment.report, shipment.train, shipment.test
    bands = "\n".join(
        f"| {b['above']} | {b['outcome']} | {b['rows']:,} | {b['fraud_caught']:.1%} | {b['precision']:.1%} | {b['false_positive_rate']:.3%} |"
        for b in report["bands"]
    )
    calibrated = "\n".join(
        f"| {b['from']:g} to {b['to']:g} | {b['rows']:,} | {b['score']:.4f} | {b['fraud']:.4f} |" for b in report["calibration"]
    )
    first = report["first_purchases"]
    return f"""# Model card: {shipment.name} {shipment.version}

Scores a payment with the probability that it is fraud, while the customer waits. Boosted trees (LightGBM,
{shipment.trees} trees of at most 31 leaves) over {len(train.features)} features that the service computes, exported to ONNX.

sha256 `{hashlib.sha256(shipment.model).hexdigest()}`
feature schema `{train.feature_schema}`

## Use
The score is one voice among the rules: the rule set's policy says what it leads to. It was made to be blocked on above
{BANDS[0][0]} and reviewed above {BANDS[1][0]}. It is a starting point, trained on simulated traffic only: before it decides about
real payments, train it on your own history (`verdict backtest --features`) and judge it there.

## Data
Simulated people and thieves (`verdict simulate`): account takeover, card testing, leaked cards, compromised merchants;
honest people who travel, log in through far gateways, spend big and buy in bursts. New people keep arriving.

| | seed | people | days | transactions | fraud |
|---|---|---|---|---|---|
| training (the last fifth of the time stops it) | {train.seed} | {train.shape.users:,} | {train.shape.days:g} | {len(train.fraud):,} | {int(train.fraud.sum()):,} |
| judging | {test.seed} | {test.shape.users:,} | {test.shape.days:g} | {len(test.fraud):,} | {int(test.fraud.sum()):,} |

## How good it is
On the judging traffic, another seed: none of its people or thieves was seen in training.

| | |
|---|---|
| area under the ROC curve | {report['auc']:.4f} (amount alone: {report['auc_of_amount_alone']:.4f}) |
| average precision | {report['average_precision']:.4f} (by chance: {test.fraud.mean():.4f}) |
| Brier score | {report['brier']:.5f} (always the mean: {report['brier_of_the_mean']:.5f}) |
| log loss | {report['log_loss']:.5f} |
| expected calibration error | {report['expected_calibration_error']:.5f} |

| score above | decision | payments | fraud caught | precision | honest payments hit |
|---|---|---|---|---|---|
{bands}

Calibration: mean score against the share of fraud.

| score | payments | mean score | fraud |
|---|---|---|---|
{calibrated}

Newcomers: {first['rows']:,} first purchases, {first['fraud'] / max(first['rows'], 1):.2%} of them fraud, mean score {first['mean_score']:.2%}.

## Limits
- Simulated fraud is simpler than real fraud. These figures say that the pipeline works, not what it saves.
- It sees one user at a time. A compromised merchant or a shared device shows only in what its victims' histories say.
- A history shorter than 30 days makes the longest windows look emptier than they are.
- Its export differs from the trained trees by at most {shipment.difference:.1e}; the service checks {GOLDEN_ROWS:,} golden rows at every start.

## Made with
`python3 models/train.py --name {shipment.name} --version {shipment.version} --seed {train.seed} --test-seed {test.seed} --users {train.shape.users} --events {train.shape.events} --days {train.shape.days:g}`
"""
