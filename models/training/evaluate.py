"""How good a model is on traffic that it has not seen: ranking, calibration, and what its bands would do."""

import numpy as np
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from .dataset import Dataset

# The bands of the default rule set: strictly above.
BANDS = [(0.8, "block"), (0.5, "review")]


def judge(test: Dataset, scores: np.ndarray) -> dict:
    """All figures, as plain numbers."""
    fraud = test.fraud
    bins = calibration(fraud, scores)
    first = test.exact[:, test.features.index("is_first_purchase")] == 1.0
    return {
        "rows": len(fraud),
        "fraud": int(fraud.sum()),
        "auc": float(roc_auc_score(fraud, scores)),
        "average_precision": float(average_precision_score(fraud, scores)),
        "brier": float(brier_score_loss(fraud, scores)),
        "brier_of_the_mean": float(fraud.mean() * (1 - fraud.mean())),
        "log_loss": float(log_loss(fraud, np.clip(scores, 1e-7, 1 - 1e-7))),
        "expected_calibration_error": float(sum(b["rows"] * abs(b["score"] - b["fraud"]) for b in bins) / len(fraud)),
        "calibration": bins,
        "bands": [band(fraud, scores, above, outcome) for above, outcome in BANDS],
        "first_purchases": {
            "rows": int(first.sum()),
            "fraud": int(fraud[first].sum()),
            "mean_score": float(scores[first].mean()),
        },
        "auc_of_amount_alone": float(roc_auc_score(fraud, test.matrix[:, test.features.index("amount")])),
    }


def calibration(fraud: np.ndarray, scores: np.ndarray) -> list[dict]:
    """Mean score and share of fraud, by score."""
    edges = np.array([0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0 + 1e-9])
    bins = []
    for low, high in zip(edges, edges[1:]):
        inside = (scores >= low) & (scores < high)
        if inside.any():
            means = {"score": float(scores[inside].mean()), "fraud": float(fraud[inside].mean())}
            bins.append({"from": float(low), "to": float(min(high, 1.0)), "rows": int(inside.sum())} | means)
    return bins


def band(fraud: np.ndarray, scores: np.ndarray, above: float, outcome: str) -> dict:
    """What a threshold catches, and whom it bothers."""
    # Compared as the service does: both as float32.
    hit = scores.astype(np.float32) > np.float32(above)
    return {
        "above": above,
        "outcome": outcome,
        "rows": int(hit.sum()),
        "precision": float(fraud[hit].mean()) if hit.any() else 0.0,
        "fraud_caught": float(hit[fraud].mean()),
        "false_positive_rate": float(hit[~fraud].mean()),
    }


def summary(report: dict) -> str:
    """One line a figure, for the terminal."""
    lines = [f"{name:28} {report[name]:.4f}" for name in ("auc", "average_precision", "brier", "expected_calibration_error")]
    for entry in report["bands"]:
        figures = f"catches {entry['fraud_caught']:.1%} of fraud at {entry['precision']:.1%} precision"
        lines.append(f"above {entry['above']} ({entry['outcome']}): {figures}, {entry['false_positive_rate']:.3%} of honest rows")
    return "\n".join(lines)
