"""Writes endless.onnx: a model of one feature that goes round a loop as many times as the largest feature says,
and then gives every row the score 0.25. With a large feature it does not end in anybody's lifetime.

    models/.venv/bin/python service/app/src/model/testdata/endless.py
"""

from pathlib import Path

from onnx import TensorProto, checker, helper, save

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def scalar(name, kind):
    return helper.make_tensor_value_info(name, kind, [])


body = helper.make_graph(
    [
        helper.make_node("Identity", ["go_on"], ["go_on_next"]),
        helper.make_node("Add", ["sum", "step"], ["sum_next"]),
    ],
    "round",
    [scalar("number", INT64), scalar("go_on", BOOL), scalar("sum", FLOAT)],
    [scalar("go_on_next", BOOL), scalar("sum_next", FLOAT)],
    [helper.make_tensor("step", FLOAT, [], [1.0])],
)
constants = [
    helper.make_tensor("always", BOOL, [], [True]),
    helper.make_tensor("zero", FLOAT, [], [0.0]),
    helper.make_tensor("quarter", FLOAT, [], [0.25]),
]
graph = helper.make_graph(
    [
        helper.make_node("ReduceMax", ["features"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["rounds"], to=INT64),
        helper.make_node("Loop", ["rounds", "always", "zero"], ["sum"], body=body),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Mul", ["features", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "nothing"], ["still_zeros"]),
        helper.make_node("Add", ["still_zeros", "quarter"], ["score"]),
    ],
    "endless",
    [helper.make_tensor_value_info("features", FLOAT, ["rows", 1])],
    [helper.make_tensor_value_info("score", FLOAT, ["rows", 1])],
    constants,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
checker.check_model(model)
save(model, Path(__file__).with_suffix(".onnx"))
