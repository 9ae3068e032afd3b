"""Trains the three versions of the `digits` example and writes their bundles.

    python train.py           train, check, and write the files beside this script
    python train.py --check   train into a temporary folder and compare byte for byte

Version 1.2.0 is wrong on purpose, in a way that happens in real life: see README.md.
"""

import os

# The last bits of a sum depend on how many threads share it and on which CPU's code path runs, and training
# magnifies them. So: one thread, and the code that every x86-64 CPU with AVX2 can run, in BLAS and in numpy.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_CORETYPE"] = "Haswell"
os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V4 AVX512_ICL AVX512_SPR"

import argparse
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).resolve().parent
SEED = 1998  # the year in which the data was published
OPSET, IR_VERSION = 18, 8
STREAM_ROWS, GOLDEN_ROWS = 500, 64
TOLERANCE = 1e-5
Classifier = LogisticRegression | MLPClassifier


@dataclass(frozen=True)
class Split:
    """Rows of the data set; pixels are raw, 0…16."""

    pixels: np.ndarray  # float32 [rows, 64]
    labels: np.ndarray  # int64 [rows]


@dataclass(frozen=True)
class Version:
    """What sets one version apart."""

    number: str
    classifier: Classifier
    scale: float  # what the training script multiplies raw pixels by, outside the graph
    title: str
    notes: str


def versions() -> list[Version]:
    """The three versions, untrained."""
    return [
        Version(
            "1.0.0",
            LogisticRegression(C=0.01, max_iter=2000),
            1.0,
            "a linear model",
            "Multinomial logistic regression on raw pixels, 0…16.",
        ),
        Version(
            "1.1.0",
            MLPClassifier((32,), alpha=1.0, max_iter=400, random_state=SEED),
            1.0,
            "a small neural network",
            "One hidden layer of 32 ReLU units, L2 penalty 1, Adam, on raw pixels, 0…16.",
        ),
        Version(
            "1.2.0",
            # lbfgs is what scikit-learn's documentation advises for data sets this small.
            MLPClassifier((32, 32), alpha=3.0, solver="lbfgs", max_iter=500, random_state=SEED),
            1.0 / 16.0,
            "a deeper neural network",
            "Two hidden layers of 32 ReLU units, L2 penalty 3, L-BFGS, on normalised pixels, 0…1.",
        ),
    ]


def load_splits() -> tuple[Split, Split, Split]:
    """Train, golden and stream rows: disjoint, each with all digits in equal share."""
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels.astype(np.float32), labels.astype(np.int64)
    # No image occurs twice, so disjoint row numbers mean disjoint images.
    assert len(np.unique(pixels, axis=0)) == len(pixels) == 1797
    rest, stream = train_test_split(
        np.arange(len(labels)), test_size=STREAM_ROWS, stratify=labels, random_state=SEED
    )
    train, golden = train_test_split(
        rest, test_size=GOLDEN_ROWS, stratify=labels[rest], random_state=SEED
    )
    parts = (train, golden, stream)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    return tuple(Split(pixels[rows], labels[rows]) for rows in parts)


def probabilities(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    """The training framework's own answer, which the exported model must reproduce."""
    return np.ascontiguousarray(classifier.predict_proba(pixels.astype(np.float64)), np.float32)


def linear_graph(classifier: LogisticRegression) -> onnx.ModelProto:
    """Logistic regression from its coefficients.

    skl2onnx would write ai.onnx.ml's LinearClassifier, which few small runtimes have.
    """
    weights = [
        numpy_helper.from_array(np.ascontiguousarray(classifier.coef_.T, np.float32), "coefficient"),
        numpy_helper.from_array(classifier.intercept_.astype(np.float32), "intercept"),
    ]
    nodes = [
        helper.make_node("MatMul", ["pixels", "coefficient"], ["product"]),
        helper.make_node("Add", ["product", "intercept"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 64])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])
    return helper.make_model(helper.make_graph(nodes, "digits", [pixels], [answer], weights))


def mlp_graph(classifier: MLPClassifier) -> onnx.ModelProto:
    """The network as skl2onnx writes it, cut off before the label: that part needs ai.onnx.ml."""
    model = to_onnx(
        classifier,
        initial_types=[("pixels", FloatTensorType([None, 64]))],
        options={"zipmap": False},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    return Extractor(model).extract_model(["pixels"], ["probabilities"])


def export(classifier: Classifier) -> bytes:
    """One `pixels` [N, 64] in, one `probabilities` [N, 10] out, plain operators, stable bytes."""
    model = (linear_graph if isinstance(classifier, LogisticRegression) else mlp_graph)(classifier)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "tidegate-example-digits", ""
    model.domain, model.doc_string, model.graph.name = "", "", "digits"
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "N"
    assert all(node.domain == "" for node in model.graph.node)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """numpy dates every member 1980-01-01, so equal arrays give equal bytes."""
    assert all(a.flags.c_contiguous and a.dtype.byteorder in "=<" for a in arrays.values())
    np.savez_compressed(path, **arrays)


def model_toml(number: str) -> str:
    """The bundle's description, read by `tidegate model push`."""
    labels = ", ".join(f'"{digit}"' for digit in range(10))
    return f"""\
name = "digits"
version = "{number}"
model = "model.onnx"
golden = "golden.npz"
reference = "reference.npz"
card = "card.md"
task = "classification"

[[inputs]]
name = "pixels"
datatype = "FP32"
shape = [-1, 64]

[[outputs]]
name = "probabilities"
datatype = "FP32"
shape = [-1, 10]
labels = [{labels}]
"""


def card(version: Version, train_rows: int, right: float) -> str:
    """The model card, as its author would have written it: 1.2.0's knows of no mistake."""
    return f"""\
# digits {version.number}: {version.title}

{version.notes}

- **Task**: tell which digit, 0 to 9, an 8×8 image of handwriting shows.
- **Input**: `pixels`, 64 numbers, row by row. **Output**: `probabilities`, one per digit.
- **Data**: the 1,797 images of the UCI test set "Optical Recognition of Handwritten Digits"
  (E. Alpaydin and C. Kaynak, 1998, CC BY 4.0) that scikit-learn carries; {train_rows:,} of them for training.
- **Accuracy**: {right:.1%} on {STREAM_ROWS} held-back images, prepared as in training.
- **Intended use**: showing and testing how Tidegate ships models. Not for reading real forms: the writers
  are few, and the images are centred, cropped and clean.
"""


def build(folder: Path) -> None:
    """Trains and checks everything and writes it to `folder`."""
    train, golden, stream = load_splits()
    write_npz(folder / "stream.npz", pixels=stream.pixels, labels=stream.labels)
    right: dict[str, float] = {}  # accuracy on the stream, prepared as in training
    live: dict[str, np.ndarray] = {}  # answers to the stream as devices feed it, 0…16
    for version in versions():
        classifier, scale = version.classifier, np.float32(version.scale)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it may stop early
            classifier.fit((train.pixels * scale).astype(np.float64), train.labels)
        model = export(classifier)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

        out = folder / version.number
        out.mkdir(exist_ok=True)
        (out / "model.onnx").write_bytes(model)
        deviation = 0.0
        for name, split in (("golden", golden), ("reference", train)):
            pixels = split.pixels * scale
            answer = probabilities(classifier, pixels)
            write_npz(out / f"{name}.npz", **{"input.pixels": pixels, "output.probabilities": answer})
            exported = session.run(["probabilities"], {"pixels": pixels})[0]
            deviation = max(deviation, float(np.abs(exported - answer).max()))
        assert deviation < TOLERANCE, f"{version.number}: the export deviates by {deviation:.1e}"

        prepared = probabilities(classifier, stream.pixels * scale)
        right[version.number] = float((prepared.argmax(1) == stream.labels).mean())
        live[version.number] = probabilities(classifier, stream.pixels)
        (out / "card.md").write_text(card(version, len(train.labels), right[version.number]))
        (out / "model.toml").write_text(model_toml(version.number))

        fed = live[version.number]
        print(
            f"{version.number}  stream accuracy {right[version.number]:.3f}"
            f", fed 0…16 {(fed.argmax(1) == stream.labels).mean():.3f}"
            f"; mean top probability {prepared.max(1).mean():.3f}, fed 0…16 {fed.max(1).mean():.3f}"
            f", on the reference {answer.max(1).mean():.3f}"
            f"; ONNX Runtime deviates by {deviation:.1e}"
        )

    disagreement = float((live["1.2.0"].argmax(1) != live["1.1.0"].argmax(1)).mean())
    print(f"1.2.0 and 1.1.0, both fed 0…16, disagree on {disagreement:.1%} of the stream")
    assert right["1.0.0"] < right["1.1.0"], "1.1.0 must be better than 1.0.0"
    assert right["1.0.0"] < right["1.2.0"], "1.2.0 must be good on what it was trained for"
    assert disagreement >= 0.25, "the mistake must show on live data"


def differences(made: Path, kept: Path) -> list[str]:
    """Files of a fresh build that the folder lacks or has otherwise."""
    names = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    return [
        str(name)
        for name in names
        if not (kept / name).is_file() or (kept / name).read_bytes() != (made / name).read_bytes()
    ]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, change nothing")
    if not parser.parse_args().check:
        build(HERE)
        return
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        different = differences(Path(folder), HERE)
    if different:
        raise SystemExit("not byte-identical: " + ", ".join(different))
    print("all files are byte-identical")


if __name__ == "__main__":
    main()
