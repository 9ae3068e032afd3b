"""Makes the models of the comparison: a folder each, with model.onnx, golden.npz and model.toml.

    models.py FOLDER EXAMPLES

Weights are random where only speed matters. Golden outputs are those of ONNX Runtime. Every model
has a batch dimension in front, and is exported for operator set 17.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
ROWS = 8


class Graph:
    """Nodes and weights, as they are added."""

    def __init__(self, seed=7):
        self.nodes, self.weights, self.count = [], [], 0
        self.random = np.random.default_rng(seed)

    def weight(self, *shape, scale=None):
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else shape[0]
        scale = scale if scale is not None else 1.0 / np.sqrt(max(fan_in, 1))
        return self.const((self.random.standard_normal(shape) * scale).astype(np.float32))

    def const(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, kind, *inputs, **attributes):
        self.count += 1
        output = f"{kind.lower()}{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def conv(self, x, channels_in, channels, kernel, stride=1, group=1, relu=None):
        pad = kernel // 2
        weight = self.weight(channels, channels_in // group, kernel, kernel)
        x = self.add("Conv", x, weight, self.weight(channels, scale=0.01), group=group,
                     kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        if relu == 6:
            low, high = self.const(np.float32(0)), self.const(np.float32(6))
            return self.add("Clip", x, low, high)
        return self.add("Relu", x) if relu else x

    def dense(self, x, width_in, width):
        return self.add("Gemm", x, self.weight(width_in, width, scale=width_in**-0.5),
                        self.weight(width, scale=0.01))

    def classifier(self, x, width_in, classes):
        x = self.add("Flatten", self.add("GlobalAveragePool", x), axis=1)
        return self.add("Softmax", self.dense(x, width_in, classes), axis=1)

    def model(self, input_shape, output, output_shape):
        self.nodes.append(helper.make_node("Identity", [output], ["y"], name="y"))
        graph = helper.make_graph(
            self.nodes, "model",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *input_shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *output_shape])],
            self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model


def mlp():
    g = Graph()
    x = g.add("Relu", g.dense("x", 64, 32))
    return g.model([64], g.add("Softmax", g.dense(x, 32, 10), axis=1), [10])


def cnn28():
    g = Graph()
    x = g.conv("x", 1, 16, 3, relu=True)
    x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.conv(x, 16, 32, 3, relu=True)
    x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.add("Relu", g.dense(g.add("Flatten", x, axis=1), 32 * 49, 64))
    return g.model([1, 28, 28], g.add("Softmax", g.dense(x, 64, 10), axis=1), [10])


def cnn96():
    """As in visual wake words: MobileNet v1 at a quarter of its width, on 96 × 96 grey pixels."""
    g = Graph()
    x, channels = g.conv("x", 1, 8, 3, 2, relu=True), 8
    for width, stride in [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1),
                          (128, 1), (128, 1), (128, 1), (128, 1), (256, 2), (256, 1)]:
        x = g.conv(x, channels, channels, 3, stride, group=channels, relu=True)
        x = g.conv(x, channels, width, 1, relu=True)
        channels = width
    return g.model([1, 96, 96], g.classifier(x, channels, 2), [2])


def mobilenet():
    """MobileNetV2, 224 × 224, with the normalisations folded into the convolutions."""
    g = Graph()
    x, channels = g.conv("x", 3, 32, 3, 2, relu=6), 32
    for factor, width, repeat, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2),
                                          (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                                          (6, 320, 1, 1)]:
        for index in range(repeat):
            before, inner = x, channels * factor
            step = stride if index == 0 else 1
            if factor > 1:
                x = g.conv(x, channels, inner, 1, relu=6)
            x = g.conv(x, inner, inner, 3, step, group=inner, relu=6)
            x = g.conv(x, inner, width, 1)
            if step == 1 and channels == width:
                x = g.add("Add", before, x)
            channels = width
    x = g.conv(x, channels, 1280, 1, relu=6)
    return g.model([3, 224, 224], g.classifier(x, 1280, 1000), [1000])


def lstm():
    """32 steps of 16 numbers, 64 units."""
    g = Graph()
    x = g.add("Transpose", "x", perm=[1, 0, 2])
    weights = g.weight(1, 256, 16, scale=0.2), g.weight(1, 256, 64, scale=0.1)
    bias = g.weight(1, 512, scale=0.05)
    g.nodes.append(helper.make_node("LSTM", [x, *weights, bias], ["", "last"], name="lstm",
                                    hidden_size=64))
    x = g.add("Squeeze", "last", g.const(np.array([0], np.int64)))
    return g.model([32, 16], g.add("Softmax", g.dense(x, 64, 5), axis=1), [5])


def transformer(layers=4, steps=32, width=128, heads=4):
    g = Graph()
    dims = lambda *values: g.const(np.array(values, np.int64))
    linear = lambda x, a, b: g.add("Add", g.add("MatMul", x, g.weight(a, b, scale=a**-0.5)),
                                   g.weight(b, scale=0.01))
    norm = lambda x: g.add("LayerNormalization", x, g.const(np.ones(width, np.float32)),
                           g.const(np.zeros(width, np.float32)), axis=-1)
    x = linear("x", 16, width)
    for _ in range(layers):
        q, k, v = (g.add("Transpose", g.add("Reshape", linear(x, width, width),
                                            dims(-1, steps, heads, width // heads)), perm=perm)
                   for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        scores = g.add("Mul", g.add("MatMul", q, k), g.const(np.float32((width // heads)**-0.5)))
        mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), v)
        mixed = g.add("Reshape", g.add("Transpose", mixed, perm=[0, 2, 1, 3]), dims(-1, steps, width))
        x = norm(g.add("Add", x, linear(mixed, width, width)))
        x = norm(g.add("Add", x, linear(g.add("Relu", linear(x, width, 4 * width)), 4 * width, width)))
    x = g.add("ReduceMean", x, axes=[1], keepdims=0)
    return g.model([steps, 16], g.add("Softmax", g.dense(x, width, 5), axis=1), [5])


def sklearn_models():
    """Name, ONNX model, input width, classes."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris, make_classification
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def export(model, x):
        return to_onnx(model, x[:1].astype(np.float32), target_opset={"": OPSET, "ai.onnx.ml": 3},
                       options={"zipmap": False})

    x, y = load_iris(return_X_y=True)
    iris = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    yield "iris", export(iris, x), x
    x, y = make_classification(4000, 20, n_informative=12, n_classes=4, random_state=1)
    forest = RandomForestClassifier(100, max_depth=10, random_state=1).fit(x, y)
    yield "forest", export(forest, x), x
    boosting = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=1).fit(x, y)
    yield "boosting", export(boosting, x), x


def write(folder, name, model, x):
    """The bundle's folder; the golden set has what ONNX Runtime answers to `x`."""
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path / "model.onnx"))
    source = session.get_inputs()[0].name
    outputs = session.get_outputs()
    output = outputs[-1].name
    answers = [session.run([output], {source: x[i:i + 1]})[0] for i in range(len(x))]
    y = np.concatenate(answers)
    np.savez(path / "golden.npz", **{f"input.{source}": x, f"output.{output}": y})
    shape = lambda array: [-1, *array.shape[1:]]
    (path / "model.toml").write_text(f"""name = "{name}"
version = "1"
model = "model.onnx"
golden = "golden.npz"
task = "classification"
[[inputs]]
name = "{source}"
datatype = "FP32"
shape = {shape(x)}
[[outputs]]
name = "{output}"
datatype = "FP32"
shape = {shape(y)}
[gates.self_test]
atol = 1e-4
""")


def main():
    folder, examples = Path(sys.argv[1]), Path(sys.argv[2])
    digits = folder / "digits"
    shutil.copytree(examples / "digits" / "1.1.0", digits, dirs_exist_ok=True)
    random = np.random.default_rng(3)
    shapes = {"mlp": [64], "cnn28": [1, 28, 28], "cnn96": [1, 96, 96], "mobilenet": [3, 224, 224],
              "lstm": [32, 16], "transformer": [32, 16]}
    for make in (mlp, cnn28, cnn96, mobilenet, lstm, transformer):
        name = make.__name__
        rows = 1 if name == "mobilenet" else ROWS
        write(folder, name, make(), random.random((rows, *shapes[name]), np.float32))
    for name, model, x in sklearn_models():
        write(folder, name, model, x[:ROWS].astype(np.float32))


if __name__ == "__main__":
    main()
