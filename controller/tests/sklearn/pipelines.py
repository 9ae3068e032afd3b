"""Trains small scikit-learn pipelines of every kind and exports them as a user would.

    pipelines.py FOLDER [NAME...]

$GOLDEN_ROWS: so many rows in each golden set; otherwise all that the pipeline was trained with.

Each becomes a model's folder: model.onnx (skl2onnx, its default options), golden.npz (ONNX Runtime's
answers) and model.toml.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pandas
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType)
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier, BaggingClassifier, ExtraTreesClassifier, ExtraTreesRegressor,
    GradientBoostingClassifier, GradientBoostingRegressor, HistGradientBoostingClassifier,
    HistGradientBoostingRegressor, IsolationForest, RandomForestClassifier, RandomForestRegressor,
    StackingClassifier, VotingClassifier)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet, LinearRegression, LogisticRegression, Ridge, SGDClassifier)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder,
    PolynomialFeatures, RobustScaler, StandardScaler)
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

warnings.filterwarnings("ignore")
ROWS = 300
random = np.random.default_rng(7)


def numbers(rows=ROWS, columns=6):
    return random.normal(size=(rows, columns)).astype(np.float32)


def classes(x, count):
    score = x[:, 0] * 1.5 + np.sin(2 * x[:, 1]) - x[:, 2] * x[:, 3]
    return np.digitize(score, np.quantile(score, np.linspace(0, 1, count + 1)[1:-1]))


def target(x):
    return (x[:, 0] * 2 + np.sin(3 * x[:, 1]) + x[:, 2] * x[:, 3]).astype(np.float32)


def holes(x):
    x = x.copy()
    x[random.random(x.shape) < 0.1] = np.nan
    return x


WORDS = np.array(["amber", "blue", "coral", "denim"])


def classifier(model, count=3, words=False, x=None, golden=None):
    x = numbers() if x is None else x
    filled = np.nan_to_num(x)
    y = classes(filled, count)
    y = WORDS[y] if words else y + 3
    return model.fit(x, y), {"X": x if golden is None else golden}, "classification"


def regressor(model, x=None):
    x = numbers() if x is None else x
    return model.fit(x, target(np.nan_to_num(x))), {"X": x}, "regression"


def clusters(model):
    x = numbers()
    return model.fit(x), {"X": x}, "clusters"


def both(model, kind):
    """Columns of words beside columns of numbers."""
    frame = pandas.DataFrame({
        "size": random.normal(size=ROWS).astype(np.float32),
        "weight": holes(numbers(columns=1))[:, 0],
        "colour": random.choice(WORDS, ROWS),
        "site": random.choice(np.array(["oslo", "turin"]), ROWS),
    })
    score = frame["size"] + (frame["colour"] == "blue") * 2 - (frame["site"] == "oslo")
    y = (score > 0.5).astype(int) if kind == "classification" else score
    fed = {name: frame[[name]].to_numpy() for name in frame}
    fed["colour"], fed["site"] = (fed[name].astype(str) for name in ("colour", "site"))
    fed["size"], fed["weight"] = (fed[name].astype(np.float32) for name in ("size", "weight"))
    return model.fit(frame, y), fed, kind


def columns_of(unknown):
    return ColumnTransformer([
        ("n", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["size", "weight"]),
        ("c", OneHotEncoder(handle_unknown=unknown), ["colour", "site"])])


def codes(model):
    x = random.integers(0, 4, size=(ROWS, 3))
    return model.fit(x, classes(x.astype(float)[:, [0, 1, 2, 0]], 2)), {"X": x.astype(np.int64)}, \
        "classification"


PIPELINES = {
    "scaler-logistic": lambda: classifier(make_pipeline(StandardScaler(), LogisticRegression())),
    "logistic-binary": lambda: classifier(LogisticRegression(), 2),
    "logistic-words": lambda: classifier(LogisticRegression(), 4, words=True),
    "logistic-ovr": lambda: classifier(OneVsRestClassifier(LogisticRegression())),
    "sgd": lambda: classifier(make_pipeline(RobustScaler(), SGDClassifier(loss="log_loss"))),
    "linear": lambda: regressor(make_pipeline(MinMaxScaler(), LinearRegression())),
    "ridge": lambda: regressor(make_pipeline(MaxAbsScaler(), Ridge())),
    "elastic-polynomial": lambda: regressor(make_pipeline(PolynomialFeatures(2), ElasticNet())),
    "imputer": lambda: classifier(
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), x=holes(numbers())),
    "imputer-value": lambda: regressor(
        make_pipeline(SimpleImputer(missing_values=-1.0, strategy="median"), Ridge()),
        x=np.where(random.random((ROWS, 6)) < 0.1, -1.0, numbers()).astype(np.float32)),
    "normalizer": lambda: classifier(make_pipeline(Normalizer(), LogisticRegression())),
    "normalizer-l1": lambda: classifier(make_pipeline(Normalizer("l1"), LogisticRegression())),
    "normalizer-max": lambda: classifier(make_pipeline(Normalizer("max"), LogisticRegression())),
    "binarizer": lambda: classifier(make_pipeline(Binarizer(threshold=0.2), LogisticRegression())),
    "one-hot-ints": lambda: codes(make_pipeline(OneHotEncoder(), LogisticRegression())),
    "ordinal-ints": lambda: codes(make_pipeline(OrdinalEncoder(), DecisionTreeClassifier())),
    "columns": lambda: both(
        make_pipeline(columns_of("ignore"), LogisticRegression()), "classification"),
    "columns-forest": lambda: both(
        make_pipeline(columns_of("error"), RandomForestRegressor(10, max_depth=4)), "regression"),
    "pca": lambda: classifier(make_pipeline(PCA(3), LogisticRegression())),
    "select": lambda: classifier(make_pipeline(SelectKBest(k=3), LogisticRegression())),
    "mlp": lambda: classifier(make_pipeline(StandardScaler(), MLPClassifier((16, 8), max_iter=60))),
    "mlp-binary": lambda: classifier(MLPClassifier((8,), "tanh", max_iter=60), 2, words=True),
    "mlp-regressor": lambda: regressor(MLPRegressor(hidden_layer_sizes=(16,), max_iter=60)),
    "svc-rbf": lambda: classifier(make_pipeline(StandardScaler(), SVC())),
    "svc-rbf-binary": lambda: classifier(SVC(), 2),
    "svc-linear": lambda: classifier(SVC(kernel="linear"), 4, words=True),
    "svc-poly": lambda: classifier(SVC(kernel="poly", coef0=0.5)),
    "svc-sigmoid": lambda: classifier(SVC(kernel="sigmoid")),
    "svc-probability": lambda: classifier(SVC(probability=True)),
    "svc-probability-binary": lambda: classifier(SVC(probability=True), 2, words=True),
    "nusvc": lambda: classifier(NuSVC(nu=0.3)),
    "linear-svc": lambda: classifier(LinearSVC()),
    "linear-svc-binary": lambda: classifier(LinearSVC(), 2),
    "svr-rbf": lambda: regressor(make_pipeline(StandardScaler(), SVR())),
    "svr-poly": lambda: regressor(SVR(kernel="poly")),
    "svr-linear": lambda: regressor(SVR(kernel="linear")),
    "tree": lambda: classifier(DecisionTreeClassifier(max_depth=5)),
    "tree-binary": lambda: classifier(DecisionTreeClassifier(max_depth=5), 2),
    "tree-regressor": lambda: regressor(DecisionTreeRegressor(max_depth=5)),
    "forest": lambda: classifier(RandomForestClassifier(20, max_depth=5)),
    "forest-words": lambda: classifier(RandomForestClassifier(20, max_depth=5), 4, words=True),
    "forest-binary": lambda: classifier(RandomForestClassifier(20, max_depth=5), 2),
    "forest-regressor": lambda: regressor(RandomForestRegressor(20, max_depth=5)),
    "forest-multi": lambda: multi(RandomForestRegressor(10, max_depth=5)),
    "forest-double": lambda: double(RandomForestClassifier(20, max_depth=5)),
    "forest-scaled": lambda: classifier(
        make_pipeline(StandardScaler(), RandomForestClassifier(20, max_depth=5))),
    "extra": lambda: classifier(ExtraTreesClassifier(20, max_depth=5)),
    "extra-regressor": lambda: regressor(ExtraTreesRegressor(20, max_depth=5)),
    "boosting": lambda: classifier(GradientBoostingClassifier(n_estimators=20)),
    "boosting-binary": lambda: classifier(GradientBoostingClassifier(n_estimators=20), 2),
    "boosting-regressor": lambda: regressor(GradientBoostingRegressor(n_estimators=20)),
    "hist": lambda: classifier(
        HistGradientBoostingClassifier(max_iter=15, min_samples_leaf=5), x=holes(numbers())),
    "hist-binary": lambda: classifier(
        HistGradientBoostingClassifier(max_iter=15, min_samples_leaf=5), 2, x=holes(numbers())),
    "hist-regressor": lambda: regressor(
        HistGradientBoostingRegressor(max_iter=15, min_samples_leaf=5), x=holes(numbers())),
    "ada": lambda: classifier(AdaBoostClassifier(n_estimators=10)),
    "bagging": lambda: classifier(BaggingClassifier(DecisionTreeClassifier(max_depth=3), 5)),
    "voting": lambda: classifier(VotingClassifier(
        [("a", LogisticRegression()), ("b", RandomForestClassifier(5, max_depth=3))],
        voting="soft", flatten_transform=False)),
    "stacking": lambda: classifier(StackingClassifier(
        [("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=3))])),
    "calibrated": lambda: classifier(CalibratedClassifierCV(LinearSVC(), cv=2)),
    "k-means": lambda: clusters(KMeans(4, n_init=2)),
    "k-means-pipeline": lambda: clusters(
        make_pipeline(StandardScaler(), MiniBatchKMeans(3, n_init=2))),
    "bayes": lambda: classifier(GaussianNB()),
    "neighbours": lambda: classifier(KNeighborsClassifier(3)),
    "isolation": lambda: clusters(IsolationForest(n_estimators=10)),
}


def multi(model):
    x = numbers()
    return model.fit(x, np.stack([target(x), -target(x), x[:, 0]], 1)), {"X": x}, "regression"


def double(model):
    x = random.normal(size=(ROWS, 6))
    return model.fit(x, classes(x, 3)), {"X": x}, "classification"


TYPES = {
    np.dtype(np.float32): (FloatTensorType, "FP32"),
    np.dtype(np.float64): (DoubleTensorType, "FP64"),
    np.dtype(np.int64): (Int64TensorType, "INT64"),
}


def kind_of(array):
    return TYPES.get(array.dtype, (StringTensorType, "BYTES"))


def toml(name, task, inputs, outputs):
    lines = [f'name = "{name}"', 'version = "1.0.0"', 'model = "model.onnx"',
             'golden = "golden.npz"', f'task = "{task}"']
    for section, tensors in (("inputs", inputs), ("outputs", outputs)):
        for tensor, array in tensors.items():
            shape = [-1, *array.shape[1:]]
            lines += [f"[[{section}]]", f'name = "{tensor}"',
                      f'datatype = "{kind_of(array)[1]}"', f"shape = {shape}"]
    return "\n".join(lines) + "\n"


def write(folder, name, make):
    model, fed, task = make()
    types = [(key, kind_of(value)[0]([None, *value.shape[1:]])) for key, value in fed.items()]
    proto = to_onnx(model, initial_types=types, target_opset={"": 18, "ai.onnx.ml": 3})
    save(folder, name, proto, fed, task)
    return proto


def save(folder, name, proto, fed, task):
    """A model's folder, its golden outputs those of ONNX Runtime."""
    rows = int(os.environ.get("GOLDEN_ROWS", ROWS))
    fed = {key: value[:rows] for key, value in fed.items()}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    outputs = {}
    for spec, value in zip(session.get_outputs(), session.run(None, fed)):
        if isinstance(value, list):  # ZipMap: one dictionary a row
            value = np.array([list(row.values()) for row in value], np.float32)
        outputs[spec.name] = value.astype(str) if value.dtype == object else value
    # Scores before labels: the first output is the one that is watched.
    first = [key for key, value in outputs.items() if value.dtype == np.float32]
    outputs = {key: outputs[key] for key in [*first, *(k for k in outputs if k not in first)]}
    task = "regression" if task == "clusters" or not first else task
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.onnx").write_bytes(proto.SerializeToString())
    arrays = {f"input.{key}": value for key, value in fed.items()}
    arrays |= {f"output.{key}": value for key, value in outputs.items()}
    np.savez_compressed(path / "golden.npz", **arrays)
    (path / "model.toml").write_text(toml(name, task, fed, outputs))


def main():
    folder, names = Path(sys.argv[1]), sys.argv[2:] or PIPELINES
    for name in names:
        global random
        random = np.random.default_rng(7)
        np.random.seed(7)
        try:
            proto = write(folder, name, PIPELINES[name])
        except Exception as error:
            print(f"{name}: cannot be exported: {str(error)[:200]!r}")
            continue
        operators = {f"{n.domain}.{n.op_type}".strip(".") for n in proto.graph.node}
        print(f"{name}: {', '.join(sorted(operators))}")


if __name__ == "__main__":
    main()
