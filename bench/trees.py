#!/usr/bin/env python3
"""Ensembles of trees alone, one row at a time: our evaluator beside ONNX Runtime, in one run.

    bench/trees.py [--work FOLDER]

Wants cargo, and numpy, onnxruntime, scikit-learn and skl2onnx in the Python that runs it
(controller/tests/sklearn/requirements.txt). ONNX Runtime is asked from Python with one thread; what a
graph takes there that does nothing is measured too, and taken off in the last column.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "controller/tests/sklearn"))
import pipelines  # noqa: E402

PASSES, TOGETHER, ROWS = 20, 16, 1000


def models():
    digits, digit = load_digits(return_X_y=True)
    rows, kind = make_classification(4000, 20, n_informative=12, random_state=0)
    forest = RandomForestClassifier(100, max_depth=10, random_state=0)
    yield "forest, 100 x depth 10, 10 classes", forest, digits, digit
    yield "forest, 100 x depth 10, 2 classes", forest, rows, kind
    boosting = GradientBoostingClassifier(n_estimators=30, random_state=0)
    yield "boosting, 300 trees, 10 classes", boosting, digits, digit


def session(proto):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options)


def microseconds(run, rows):
    """For one row: of all passes the best time of every few rows, as in the evaluator's example."""
    parts = [rows[i:i + TOGETHER] for i in range(0, len(rows) - TOGETHER + 1, TOGETHER)]
    best = [float("inf")] * len(parts)
    for _ in range(PASSES):
        for place, part in enumerate(parts):
            started = time.perf_counter()
            for row in part:
                run.run(None, {"X": row})
            best[place] = min(best[place], time.perf_counter() - started)
    return sum(best) / len(parts) / TOGETHER * 1e6


def nothing(columns):
    """A session that hands its input on."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, columns]) for name in "XY"]
    graph = helper.make_graph([helper.make_node("Identity", ["X"], ["Y"])], "g", info[:1], info[1:])
    return session(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]))


def ours(work, proto, x, columns):
    folder, packed = work / "model", work / "packed"
    pipelines.save(work, "model", proto, {"X": x[:300]}, "classification")
    cargo = ["cargo", "run", "-q", "--locked", "--release"]
    pack = [*cargo, "-p", "tidegate-controller", "--bin", "tidegate", "--", "model", "pack"]
    tidegate = os.environ.get("TIDEGATE")
    pack = [tidegate, "model", "pack"] if tidegate else pack
    subprocess.run([*pack, folder, packed], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    x[:ROWS].tofile(work / "rows")
    speed = [*cargo, "-p", "tidegate-trees", "--example", "speed", "--"]
    answer = subprocess.run([*speed, packed / "model", work / "rows", str(columns)],
                            check=True, cwd=ROOT, capture_output=True, text=True)
    return float(answer.stdout.split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="where to work; otherwise in a temporary folder")
    arguments = parser.parse_args()
    print(f"{'us a row':36} {'ours':>6} {'ONNX Runtime':>13} {'ours / (theirs - nothing)':>26}")
    for name, model, x, y in models():
        x = x.astype(np.float32)
        columns = x.shape[1]
        kind = [("X", pipelines.FloatTensorType([None, columns]))]
        proto = pipelines.to_onnx(model.fit(x, y), initial_types=kind, options={"zipmap": False},
                                  target_opset={"": 18, "ai.onnx.ml": 3})
        rows = [x[i:i + 1] for i in range(ROWS)]
        theirs, idle = microseconds(session(proto), rows), microseconds(nothing(columns), rows)
        with tempfile.TemporaryDirectory(dir=arguments.work) as work:
            mine = ours(Path(work), proto, x, columns)
        print(f"{name:36} {mine:6.2f} {theirs:13.2f} {mine / (theirs - idle):26.2f}")


if __name__ == "__main__":
    main()
