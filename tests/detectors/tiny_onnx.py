"""Builds ONNX models of a few hundred bytes that answer what a test wants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def write_model(path: Path, answer, *, side=64, names=None, input_shape=None, n_outputs=1, dtype=np.float32) -> Path:
    """Write a model whose output is ``answer`` whatever the picture; ``names`` becomes Ultralytics metadata."""
    answer = np.asarray(answer, dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = input_shape or [1, 3, side, side]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    outputs = []
    for index in range(n_outputs):
        nodes.append(helper.make_node("Add", ["answer", "nothing"], [f"output{index}"]))
        outputs.append(helper.make_tensor_value_info(f"output{index}", kind, list(answer.shape)))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, shape)],
        outputs,
        [numpy_helper.from_array(answer, "answer"), numpy_helper.from_array(np.zeros((), dtype), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if names is not None:
        helper.set_model_props(model, {"names": names})
    onnx.save(model, path)
    return path


def v8(boxes, n_classes, n=12):
    """Layout (1, 4 + c, n) from rows (cx, cy, w, h, class_id, score)."""
    out = np.zeros((1, 4 + n_classes, n), np.float32)
    out[0, :4] = 5.0  # cells without an object still hold a box
    for column, (cx, cy, w, h, class_id, score) in enumerate(boxes):
        out[0, :4, column] = cx, cy, w, h
        out[0, 4 + class_id, column] = score
    return out


def v5(boxes, n_classes, n=12):
    """Layout (1, n, 5 + c) from rows (cx, cy, w, h, class_id, score): objectness 0.8, class score / 0.8."""
    out = np.zeros((1, n, 5 + n_classes), np.float32)
    out[0, :, :4] = 5.0
    for row, (cx, cy, w, h, class_id, score) in enumerate(boxes):
        out[0, row, :5] = cx, cy, w, h, 0.8
        out[0, row, 5 + class_id] = score / 0.8
    return out


def end2end(boxes, n=12):
    """Layout (1, n, 6) from the same rows, padded with zeros."""
    out = np.zeros((1, n, 6), np.float32)
    for row, (cx, cy, w, h, class_id, score) in enumerate(boxes):
        out[0, row] = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, class_id
    return out
