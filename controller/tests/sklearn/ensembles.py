"""Makes ensembles of trees of every kind that ONNX-ML knows, at random, with ONNX Runtime's answers.

    ensembles.py FOLDER

Every mode of nodes alone and all of them mixed, every aggregate and post-transform, missing values,
base values, one and several targets, two classes from one score or two, 32 and 64 bits, integers.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from pipelines import save

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
POSTS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"]
AGGREGATES = ["SUM", "AVERAGE", "MIN", "MAX"]
COLUMNS, ROWS = 4, 200
# Few and round, so that rows hit thresholds exactly.
VALUES = np.array([-1.5, -0.5, 0.0, 0.5, 1.0, 2.0])


class Trees:
    def __init__(self, random, modes, targets, missing, low, high):
        self.random, self.modes, self.targets, self.missing = random, modes, targets, missing
        self.low, self.high = low, high
        self.nodes, self.weights = [], []

    def grow(self, tree, depth):
        """Adds a node and what is below it; its number within the tree."""
        number = sum(node["treeids"] == tree for node in self.nodes)
        node = dict(treeids=tree, nodeids=number, featureids=int(self.random.integers(COLUMNS)),
                    modes="LEAF", values=0.0, truenodeids=0, falsenodeids=0, missing=0)
        self.nodes.append(node)
        if depth == 0 or (number and self.random.random() < 0.1):
            for target in self.targets:
                weight = float(np.float32(self.random.uniform(self.low, self.high)))
                self.weights.append((tree, number, target, weight))
            return number
        node["modes"] = str(self.random.choice(self.modes))
        node["values"] = float(self.random.choice(VALUES))
        node["missing"] = int(self.missing and self.random.random() < 0.5)
        node["truenodeids"] = self.grow(tree, depth - 1)
        node["falsenodeids"] = self.grow(tree, depth - 1)
        return number

    def attributes(self, prefix, double):
        of = lambda key: [node[key] for node in self.nodes]
        found = {f"nodes_{key}": of(key) for key in
                 ("treeids", "nodeids", "featureids", "modes", "truenodeids", "falsenodeids")}
        if self.missing:
            found["nodes_missing_value_tracks_true"] = of("missing")
        tree, node, target, weight = zip(*self.weights)
        found |= {f"{prefix}_treeids": tree, f"{prefix}_nodeids": node, f"{prefix}_ids": target}
        for name, numbers in (("nodes_values", of("values")), (f"{prefix}_weights", weight)):
            found |= numbers_as(name, numbers, double)
        return found


def numbers_as(name, numbers, double):
    if not double:
        return {name: [float(number) for number in numbers]}
    tensor = helper.make_tensor(name, TensorProto.DOUBLE, [len(numbers)], numbers)
    return {f"{name}_as_tensor": tensor}


def ensemble(random, *, classes=0, targets=1, of=None, modes=MODES, aggregate="SUM", post="NONE",
             base=(), missing=True, low=-1.0, high=1.0, kind=np.float32, words=False, trees=9):
    """The model and its inputs."""
    of = list(range(classes or targets)) if of is None else of
    grown = Trees(random, modes, of, missing, low, high)
    for tree in range(trees):
        grown.grow(tree, int(random.integers(1, 5)))
    double = kind == np.float64
    prefix = "class" if classes else "target"
    attributes = grown.attributes(prefix, double) | {"post_transform": post}
    if base:
        attributes |= numbers_as("base_values", base, double)
    if classes:
        operator, outputs = "TreeEnsembleClassifier", ["label", "scores"]
        labels = "classlabels_strings" if words else "classlabels_int64s"
        attributes[labels] = [f"c{i}" for i in range(classes)] if words else list(range(classes))
    else:
        operator, outputs = "TreeEnsembleRegressor", ["scores"]
        attributes |= {"n_targets": targets, "aggregate_function": aggregate}
    node = helper.make_node(operator, ["X"], outputs, domain="ai.onnx.ml", name="trees", **attributes)
    x = random.choice(VALUES, (ROWS, COLUMNS))
    near = random.normal(size=x.shape)
    x = np.where(random.random(x.shape) < 0.3, near, x)
    if np.issubdtype(kind, np.floating):
        x[random.random(x.shape) < (0.1 if missing else 0)] = np.nan
        x[random.random(x.shape) < 0.02] = np.inf
        x[random.random(x.shape) < 0.02] = -np.inf
    x = x.astype(kind)
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    infos = [helper.make_tensor_value_info("label", TensorProto.STRING if words else
                                           TensorProto.INT64, [None])] if classes else []
    infos.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None]))
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("X", element, [None, COLUMNS])], infos)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), {"X": x}


def kinds():
    for mode in MODES:
        for missing in (True, False):
            yield f"mode-{mode[7:].lower()}-{missing}".lower(), dict(modes=[mode], missing=missing)
    for kind in (np.float64, np.int64):
        if kind is np.float64:  # ONNX Runtime has no regressor of integers
            yield f"type-{np.dtype(kind)}", dict(kind=kind, targets=2)
        yield f"type-class-{np.dtype(kind)}", dict(kind=kind, classes=3)
    for aggregate, post, targets in itertools.product(AGGREGATES, POSTS, (1, 3)):
        for base in ((), tuple(0.25 * (i + 1) for i in range(targets))):
            name = f"{aggregate}-{post}-{targets}-{'base' if base else 'plain'}"
            # A quantile is one of a share.
            share = dict(low=0.01, high=0.02) if post == "PROBIT" else {}
            yield name.lower(), dict(aggregate=aggregate, post=post, targets=targets, base=base) | share
    for post, base in itertools.product(POSTS, ((), (0.1, 0.2, 0.3))):
        share = dict(low=0.01, high=0.02) if post == "PROBIT" else {}
        name = f"classes-{post}-{'base' if base else 'plain'}".lower()
        yield name, dict(classes=3, post=post, base=base, words=bool(base)) | share
    for post, base, of, low in itertools.product(
            POSTS, ((), (0.1,), (0.1, 0.2)), ([0], [1], [0, 1]), (-1.0, 0.0)):
        high = 0.1
        if post == "PROBIT" and (low < 0 or of == [0] or len(base) == 2):
            continue  # no number, or one that ONNX Runtime does not write
        if post == "PROBIT":  # far from one half, where rounding is all there is
            low, high = 0.01, 0.02
        name = f"two-{post}-{len(base)}-{''.join(map(str, of))}-{'margin' if low else 'share'}"
        # Nine trees: shares stay below one.
        yield name.lower(), dict(classes=2, post=post, base=base, of=of, low=low, high=high)


def main():
    folder = Path(sys.argv[1])
    for number, (name, options) in enumerate(kinds()):
        random = np.random.default_rng(number)
        model, fed = ensemble(random, **options)
        task = "classification" if "classes" in options else "regression"
        save(folder, f"trees-{name}", model, fed, task)
    print(f"{number + 1} ensembles")


if __name__ == "__main__":
    main()
