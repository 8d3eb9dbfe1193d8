"""Tests of the pipeline's pieces: `models/.venv/bin/python -m unittest discover -s models/tests`."""

import csv
import io
import sys
import unittest
from pathlib import Path

import lightgbm
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training import evaluate, export, publish  # noqa: E402
from training.dataset import Dataset, Shape  # noqa: E402

FEATURES = ["amount", "is_first_purchase", "miles_from_login"]


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Made-up rows, a third of them without the last feature, and whether they are fraud."""
    random = np.random.default_rng(seed)
    amount = random.lognormal(3.0, 1.0, count)
    first = (random.random(count) < 0.1).astype(float)
    miles = np.where(random.random(count) < 0.33, np.nan, random.exponential(500.0, count))
    chance = 1.0 / (1.0 + np.exp(6.0 - amount / 30.0 - np.nan_to_num(miles, nan=300.0) / 500.0))
    return np.column_stack([amount, first, miles]), random.random(count) < chance


def booster(matrix: np.ndarray, fraud: np.ndarray) -> lightgbm.Booster:
    data = lightgbm.Dataset(matrix, fraud.astype(int), feature_name=FEATURES)
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}
    return lightgbm.train(parameters, data, 20)


class Export(unittest.TestCase):
    def setUp(self) -> None:
        exact, self.fraud = rows(8_000, 1)
        self.matrix = exact.astype(np.float32)
        self.booster = booster(self.matrix, self.fraud)
        self.model = export.to_onnx(self.booster, FEATURES)

    def test_thresholds_are_rounded_down(self) -> None:
        for threshold in [0.1, -0.1, 1e-35, 16777217.0, 0.0, 0.5, *self.thresholds()]:
            rounded = export.float32_below(threshold)
            self.assertLessEqual(rounded, threshold)
            self.assertGreater(float(np.nextafter(np.float32(rounded), np.float32(np.inf))), threshold)
        self.assertEqual(export.float32_below(1.7e308), float(export.FLOAT32.max))

    def test_rows_beside_a_threshold_and_rows_without_values_score_alike(self) -> None:
        at = np.array([export.float32_below(threshold) for threshold in self.thresholds()], dtype=np.float32)
        self.assertGreater(len(at), 50)
        for values in [at, np.nextafter(at, np.float32(np.inf)), np.full(3, np.nan, dtype=np.float32)]:
            matrix = np.repeat(values[:, None], 3, axis=1)
            self.assertLess(export.greatest_difference(self.booster, self.model, matrix), export.TOLERANCE)
        self.assertLess(export.greatest_difference(self.booster, self.model, self.matrix), export.TOLERANCE)

    def thresholds(self) -> list[float]:
        """Every split's, but those that only tell a value from none."""
        nodes = [tree["tree_structure"] for tree in self.booster.dump_model()["tree_info"]]
        found = []
        while nodes:
            node = nodes.pop()
            if "split_index" in node:
                found.append(node["threshold"])
                nodes += [node["left_child"], node["right_child"]]
        return [threshold for threshold in found if abs(threshold) < 1e30]

    def test_the_same_trees_give_the_same_bytes(self) -> None:
        self.assertEqual(self.model, export.to_onnx(booster(self.matrix, self.fraud), FEATURES))


class Shipping(unittest.TestCase):
    def test_golden_rows_read_back_and_keep_clear_of_the_bands(self) -> None:
        exact, fraud = rows(9_000, 2)
        data = Dataset(FEATURES, "00", exact.astype(np.float32), exact, fraud, Shape(1, 1, 1.0), 1, "00")
        scores = np.linspace(0.0, 1.0, len(fraud)).astype(np.float32)
        shipment = publish.Shipment("m", "1", b"", data, data, scores, evaluate.judge(data, scores), 1, 0.0)
        table = list(csv.reader(io.StringIO(publish.golden(shipment))))
        self.assertEqual(table[0], [*FEATURES, "expected_score", "expected_decision"])
        self.assertEqual(len(table), 1 + publish.GOLDEN_ROWS)
        known = {tuple(map(str, row)) for row in np.nan_to_num(exact, nan=-1.0).tolist()}
        for *fields, score, decision in table[1:]:
            self.assertIn(tuple(str(float(field or "-1")) for field in fields), known)
            self.assertEqual(decision, publish.outcome(np.float32(score)))
            self.assertTrue(all(abs(float(score) - above) > publish.MARGIN for above, _ in evaluate.BANDS))

    def test_a_score_of_exactly_a_band_is_not_above_it(self) -> None:
        for (above, name), (_, below) in zip(evaluate.BANDS, [*evaluate.BANDS[1:], (0.0, "approve")]):
            self.assertEqual(publish.outcome(np.float32(above)), below)
            self.assertEqual(publish.outcome(np.nextafter(np.float32(above), np.float32(1.0))), name)

    def test_perfect_scores_are_judged_perfect(self) -> None:
        exact, fraud = rows(2_000, 3)
        data = Dataset(FEATURES, "00", exact.astype(np.float32), exact, fraud, Shape(1, 1, 1.0), 1, "00")
        report = evaluate.judge(data, fraud.astype(np.float32))
        self.assertEqual((report["auc"], report["average_precision"], report["brier"]), (1.0, 1.0, 0.0))
        self.assertEqual([(b["fraud_caught"], b["precision"]) for b in report["bands"]], [(1.0, 1.0)] * 2)
        self.assertIn("| 1.0000 |", publish.card(publish.Shipment("m", "1", b"", data, data, fraud, report, 1, 0.0)))


if __name__ == "__main__":
    unittest.main()
