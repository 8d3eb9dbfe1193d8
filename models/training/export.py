"""LightGBM to ONNX: a TreeEnsembleRegressor and a Sigmoid, whose only output is the probability of fraud.

Written out rather than taken from a converter for three reasons: a classifier's label and second column would be
computed for nothing on every decision; thresholds are float64 in LightGBM and float32 in ONNX and must be rounded
down, not to nearest; and what a missing value does must be the same on both sides.
"""

import lightgbm
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

OUTPUT = "score"
INPUT = "features"
# Leaf values are summed in float32 there and in float64 here.
TOLERANCE = 5e-6
FLOAT32 = np.finfo(np.float32)


def float32_below(threshold: float) -> float:
    """The greatest float32 that is not above: `x <= threshold` stays the same for every float32 x."""
    # LightGBM writes a split between any value and none as a threshold near the greatest float64.
    nearest = np.float32(np.clip(threshold, FLOAT32.min, FLOAT32.max))
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return float(nearest)


def missing_goes_left(node: dict) -> bool:
    """Whether a missing value takes the branch of `<=`."""
    match node["missing_type"]:
        case "NaN":
            return node["default_left"]
        case "None":
            # No value was missing in training here: LightGBM then reads a missing one as 0.
            return 0.0 <= node["threshold"]
        case other:
            raise ValueError(f"expected a missing_type of NaN or None, found {other}")


class Ensemble:
    """Collects the attributes of a TreeEnsembleRegressor, node by node."""

    def __init__(self) -> None:
        names = "treeids nodeids featureids modes values truenodeids falsenodeids missing_value_tracks_true"
        self.nodes: dict[str, list] = {f"nodes_{name}": [] for name in names.split()}
        self.leaves: dict[str, list] = {f"target_{name}": [] for name in "treeids nodeids ids weights".split()}

    def add(self, tree: int, node: dict, number: int) -> int:
        """Adds a node and everything below it, numbered from `number`; gives the next free number."""
        if "split_index" not in node:
            self._add_node(tree, number, 0, "LEAF", 0.0, 0, 0, 0)
            for name, value in zip(self.leaves, (tree, number, 0, node["leaf_value"])):
                self.leaves[name].append(value)
            return number + 1
        if node["decision_type"] != "<=":
            raise ValueError(f"expected a decision_type of <=, found {node['decision_type']}")
        place = len(self.nodes["nodes_nodeids"])
        threshold = float32_below(node["threshold"])
        missing = int(missing_goes_left(node))
        self._add_node(tree, number, node["split_feature"], "BRANCH_LEQ", threshold, number + 1, 0, missing)
        right = self.add(tree, node["left_child"], number + 1)
        self.nodes["nodes_falsenodeids"][place] = right
        return self.add(tree, node["right_child"], right)

    def _add_node(self, *values: object) -> None:
        for name, value in zip(self.nodes, values):
            self.nodes[name].append(value)


def to_onnx(booster: lightgbm.Booster, features: list[str]) -> bytes:
    """The model as the bytes of an ONNX file; the same booster gives the same bytes."""
    ensemble = Ensemble()
    for tree in booster.dump_model()["tree_info"]:
        ensemble.add(tree["tree_index"], tree["tree_structure"], 0)
    # ONNX Runtime ignores post_transform="LOGISTIC" where there is one target, so the Sigmoid is a node of its own.
    attributes = {"n_targets": 1, "aggregate_function": "SUM", "post_transform": "NONE"} | ensemble.nodes | ensemble.leaves
    trees = helper.make_node("TreeEnsembleRegressor", [INPUT], ["log_odds"], domain="ai.onnx.ml", **attributes)
    sigmoid = helper.make_node("Sigmoid", ["log_odds"], [OUTPUT])
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", len(features)])]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", 1])]
    graph = helper.make_graph([trees, sigmoid], "fraud", inputs, outputs)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="verdict")
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def score(model: bytes, matrix: np.ndarray) -> np.ndarray:
    """The scores of ONNX Runtime, the library that the service runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    batches = np.array_split(matrix, max(1, len(matrix) // 64))
    return np.concatenate([session.run([OUTPUT], {INPUT: batch})[0][:, 0] for batch in batches])


def greatest_difference(booster: lightgbm.Booster, model: bytes, matrix: np.ndarray) -> float:
    """How far the exported model is from the trained one, at most, over all rows and their like without any value."""
    rows = np.vstack([matrix, np.full((1, matrix.shape[1]), np.nan, dtype=np.float32)])
    return float(np.abs(booster.predict(rows, num_threads=1) - score(model, rows)).max())
