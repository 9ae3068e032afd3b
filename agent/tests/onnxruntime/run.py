#!/usr/bin/env python3
"""The engine `onnxruntime` with the library inside PyPI's onnxruntime wheel, against that wheel.

    agent/tests/onnxruntime/run.py [--library]     --library only prints the library's path

The environment lies under CARGO_TARGET_DIR, or where TIDEGATE_ORT_VENV says.
Exit status: 0 all agree, 1 they do not, 77 the wheel cannot be had here.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
WORKSPACE = HERE.parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or WORKSPACE / "target")
VENV = pathlib.Path(os.environ.get("TIDEGATE_ORT_VENV") or TARGET / "ort-venv")
INSTALL_SECONDS_MAX = 300
CARGO_SECONDS_MAX = 3000
CANNOT = 77
ALL_FEATURES = "tidegate-agent/candle,tidegate-agent/grpc,tidegate-agent/onnxruntime"


def enter_environment():
    """Starts over inside the virtual environment, with the libraries installed."""
    pinned = (HERE / "requirements.txt").read_text()
    marker = VENV / "requirements.txt"
    python = VENV / "bin" / "python"
    if not marker.exists() or marker.read_text() != pinned:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
            wanted = [*pip, "-r", HERE / "requirements.txt"]
            subprocess.run(wanted, check=True, timeout=INSTALL_SECONDS_MAX)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"onnxruntime cannot be installed from PyPI here: {error}", file=sys.stderr)
            sys.exit(CANNOT)
        marker.write_text(pinned)
    os.environ["TIDEGATE_ORT_INSIDE"] = "1"
    os.execv(python, [python, __file__, *sys.argv[1:]])


def models():
    """Graphs, and inputs for them: one row at a time, strings, and other numbers than FP32."""
    import numpy as np
    import onnx
    from onnx import TensorProto as kind
    from onnx import helper

    draw = np.random.default_rng(3)

    def graph(name, nodes, inputs, outputs, constants=()):
        value = helper.make_tensor_value_info
        made = helper.make_graph(
            nodes,
            name,
            [value(*tensor) for tensor in inputs],
            [value(*tensor) for tensor in outputs],
            [onnx.numpy_helper.from_array(array, called) for called, array in constants],
        )
        domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        return helper.make_model(made, opset_imports=domains, ir_version=9)

    weights = draw.standard_normal((3, 2)).astype(np.float32)
    yield (
        graph(
            "one-row",
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [("x", kind.FLOAT, [1, 3])],
            [("y", kind.FLOAT, [1, 2])],
            [("w", weights)],
        ),
        {"x": draw.standard_normal((5, 3)).astype(np.float32)},
    )
    yield (
        graph(
            "strings",
            [
                helper.make_node(
                    "LabelEncoder",
                    ["x"],
                    ["y"],
                    domain="ai.onnx.ml",
                    keys_strings=["rouge", "größer"],
                    values_strings=["red", "larger"],
                    default_string="?",
                )
            ],
            [("x", kind.STRING, ["n", 1])],
            [("y", kind.STRING, ["n", 1])],
        ),
        {"x": np.array([["rouge"], ["größer"], ["blue"]], dtype=object)},
    )
    yield (
        graph(
            "numbers",
            [
                helper.make_node("Mul", ["a", "a"], ["product"]),
                helper.make_node("Cast", ["b"], ["doubles"], to=kind.DOUBLE),
                helper.make_node("Not", ["c"], ["opposite"]),
            ],
            [("a", kind.INT64, ["n", 2]), ("b", kind.INT8, ["n", 1]), ("c", kind.BOOL, ["n", 1])],
            [
                ("product", kind.INT64, ["n", 2]),
                ("doubles", kind.DOUBLE, ["n", 1]),
                ("opposite", kind.BOOL, ["n", 1]),
            ],
        ),
        {
            "a": np.array([[1, -2], [3, 1 << 40]]),
            "b": np.array([[-7], [7]], dtype=np.int8),
            "c": np.array([[True], [False]]),
        },
    )


NAMES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int8": "INT8", "bool": "BOOL"}


def described(name, array):
    datatype = NAMES.get(array.dtype.name, "BYTES")
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def write(folder):
    """The graphs as files, each with what the wheel answers."""
    import numpy as np
    import onnxruntime

    for graph, inputs in models():
        name = graph.graph.name
        file = folder / f"{name}.onnx"
        file.write_bytes(graph.SerializeToString())
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        if name == "one-row":
            rows = [{"x": row[None]} for row in inputs["x"]]
        else:
            rows = [inputs]
        answers = [session.run(names, row) for row in rows]
        outputs = [np.concatenate(part) for part in zip(*answers)]
        case = {
            "inputs": [described(*one) for one in inputs.items()],
            "outputs": [described(*one) for one in zip(names, outputs)],
        }
        (folder / f"{name}.json").write_text(json.dumps(case))


def library():
    import onnxruntime

    found = pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*")
    return str(next(found))


def main():
    if "TIDEGATE_ORT_INSIDE" not in os.environ:
        enter_environment()
    if sys.argv[1:] == ["--library"]:
        print(library())
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write(pathlib.Path(folder))
        os.environ["ORT_DYLIB_PATH"] = library()
        os.environ["TIDEGATE_ORT_MODELS"] = folder
        cargo = ["cargo", "test", "--locked", "--workspace", "--features", ALL_FEATURES]
        cargo += ["--test", "onnxruntime", "--", "--nocapture"]
        return subprocess.run(cargo, cwd=WORKSPACE, timeout=CARGO_SECONDS_MAX).returncode


if __name__ == "__main__":
    sys.exit(main())
