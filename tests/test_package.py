"""The package as a whole: imports, names, saved results, examples in docstrings."""

import doctest
import functools
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_tcm
from keras_tcm import Evaluation, evaluate_embeddings

BACKEND = keras.backend.backend()
ROOT = pathlib.Path(keras_tcm.__file__).parents[1]

# ----------------------------------------------------------------------------- imports

_IMPORT = """
import json, sys
import keras
before = set(sys.modules)
import keras_tcm
print(json.dumps([sorted(before), sorted(sys.modules)]))
"""


@functools.cache
def modules_of_the_import():
    """Names of the modules that Keras loads, and of those that we load besides."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    return set(before), set(after) - set(before)


@pytest.mark.parametrize(
    "name",
    [
        "matplotlib",
        "PIL",
        "sklearn",
        "fontTools",
        "pandas",
        "scipy",
        "rich",
        "tensorflow",
        "jax",
        "torch",
        "pytorch_metric_learning",
        "tensorflow_similarity",
    ],
)
def test_import_brings_in_nothing_that_keras_does_not(name):
    by_keras, by_us = modules_of_the_import()
    assert "keras_tcm.losses.tcm" in by_us
    roots = {module.partition(".")[0] for module in by_us}
    if not any(module.partition(".")[0] == name for module in by_keras):
        assert name not in roots


def test_import_loads_neither_the_study_nor_the_command_line():
    _, by_us = modules_of_the_import()
    outside = "keras_tcm.study", "keras_tcm.cli"
    assert not {module for module in by_us if module.startswith(outside)}
    assert "argparse" not in by_us


# ------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    [
        "TCM",
        "OPIS",
        "Evaluation",
        "evaluate_embeddings",
        "losses.TCM",
        "losses.MultiSimilarity",
        "losses.SmoothAP",
        "losses.SupervisedContrastive",
        "losses.Contrastive",
        "losses.TripletMargin",
        "losses.RecallAtK",
        "losses.ArcFace",
        "losses.CosFace",
        "losses.NormalizedSoftmax",
        "losses.ProxyAnchor",
        "losses.EmbeddingLoss",
        "metrics.OPIS",
        "metrics.RecallAtK",
        "callbacks.RetrievalEvaluation",
        "data.ClassBalancedSampler",
        "data.ImageBatches",
        "datasets.load",
        "distribution.data_parallel",
        "models.embedding_model",
        "models.backbone",
        "models.CrossBatchMemory",
        "layers.CosineClassifier",
        "relevance.SharedLabel",
        "relevance.HierarchyLevel",
        "relevance.ClassRelevance",
        "interop.tensorflow_similarity.as_keras_loss",
        "interop.pytorch_metric_learning.as_keras_loss",
        "evaluation.UndefinedError",
        "compare_embeddings",
        "evaluation.ModelComparison",
        "reference.Case",
        "reference.cases",
        "visualization.plot_utility",
    ],
)
def test_public_name(name):
    value = functools.reduce(getattr, name.split("."), keras_tcm)
    assert callable(value)
    assert value.__name__ == name.rpartition(".")[2]
    assert value.__doc__


def test_short_names_are_the_same_classes():
    assert keras_tcm.TCM is keras_tcm.losses.TCM
    assert keras_tcm.OPIS is keras_tcm.metrics.OPIS


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?\w+)?", keras_tcm.__version__)


# ----------------------------------------------------------------------- saved results


def evaluation(labels=None, **options):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), 6)
    x = rng.normal(size=(6, 8))[y] + rng.normal(size=(36, 8))
    return evaluate_embeddings(x, y if labels is None else labels(y), **options)


def check_equal(one, other):
    assert one.to_dict() == other.to_dict()
    for name in "opis", "epsilon_opis", "map_at_r", "eer", "recall", "epsilon", "beta":
        assert getattr(one, name) == getattr(other, name)
    for name in "opis_per_class", "thresholds", "utility", "class_counts":
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.calibration_range == other.calibration_range
    assert one.summary() == other.summary()
    for mine, theirs in zip(one.operating_points, other.operating_points, strict=True):
        assert mine.resolved == theirs.resolved
        for name in "far_target", "threshold", "far", "frr":
            assert getattr(mine, name) == pytest.approx(
                getattr(theirs, name), rel=0, abs=0, nan_ok=True
            )
        for name in "per_class_far", "per_class_frr":
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


@pytest.mark.parametrize(
    "options", [{}, {"distance": "euclidean", "recall_at": (1, 30), "epsilon": 0.5}]
)
def test_save_and_load(tmp_path, options):
    result = evaluation(**options)
    path = tmp_path / "result.json"
    result.save(path)
    loaded = Evaluation.load(path)
    check_equal(loaded, result)
    assert list(loaded.classes) == list(range(6))
    assert isinstance(loaded.calibration_range, tuple)
    loaded.save(str(path))
    check_equal(Evaluation.load(str(path)), result)


def test_unresolved_operating_points_come_back_as_nan(tmp_path):
    result = evaluation(far_targets=(1e-6, 0.1))
    path = tmp_path / "result.json"
    result.save(path)
    # Strict JSON, which has no NaN.
    json.loads(path.read_text(), parse_constant=pytest.fail)
    unresolved, resolved = Evaluation.load(path).operating_points
    assert not unresolved.resolved
    assert np.isnan([unresolved.threshold, unresolved.far, unresolved.frr]).all()
    assert np.isnan(unresolved.per_class_far).all()
    assert unresolved.per_class_frr.shape == (6,)
    assert resolved.resolved
    check_equal(Evaluation.load(path), result)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (lambda y: np.array(["a", "b", "ç", "d", "e", '"'])[y], ['"', *"abdeç"]),
        (lambda y: list(y.astype(str)), list("012345")),
        (
            lambda y: [(int(i), "x") for i in y],
            [f"({i}, 'x')" for i in range(6)],
        ),
        (lambda y: list(y), list(range(6))),
        (
            lambda y: [[1, "1", (1,), 2.5, frozenset(), "(1,)"][i] for i in y],
            [1, "1", "(1,)'", 2.5, "frozenset()", "(1,)"],
        ),
        (lambda y: y % 2 == 0, [False, True]),
    ],
    ids=["strings", "numpy strings", "tuples", "numpy integers", "mixed", "booleans"],
)
def test_labels_of_any_kind_are_saved(tmp_path, labels, expected):
    result = evaluation(labels)
    path = tmp_path / "result.json"
    result.save(path)
    assert list(Evaluation.load(path).classes) == expected
    check_equal(Evaluation.load(path), result)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "3",
        '"text"',
        "null",
        "not JSON",
        '{"opis": 0.1}',
        '{"format": "another"}',
        '{"format": "keras_tcm.Evaluation"}',
        '{"format": "keras_tcm.Evaluation", "opis": 0.1, "unknown": 1}',
    ],
)
def test_foreign_json_is_a_value_error(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"(?s)`path`.*Received: .*other\.json"):
        Evaluation.load(path)


# -------------------------------------------------------------- examples in docstrings

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class NumericOutput(doctest.OutputChecker):
    """Compares numbers with a tolerance, and the text around them as usual."""

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        texts = [_NUMBER.sub("#", " ".join(text.split())) for text in (want, got)]
        if texts[0] != texts[1]:
            return False
        numbers = [[float(n) for n in _NUMBER.findall(text)] for text in (want, got)]
        return np.allclose(*numbers, rtol=1e-5, atol=1e-5)


def test_numeric_output():
    check = functools.partial(NumericOutput().check_output, optionflags=0)
    assert check("array([0.2, 3])\n", "array([0.20000001,  3])\n")
    assert not check("0.2\n", "0.21\n")
    assert not check("array([0.2])\n", "tensor([0.2])\n")


def public_objects():
    """Name and value of everything that the public modules export and we define."""
    found = {}
    modules = [keras_tcm, *vars(keras_tcm).values()]
    for module in modules:
        if not inspect.ismodule(module) or not module.__name__.startswith("keras_tcm"):
            continue
        for name, value in vars(module).items():
            is_ours = getattr(value, "__module__", "").startswith("keras_tcm")
            if not name.startswith("_") and is_ours and callable(value):
                found[f"{module.__name__}.{name}"] = value
    return found


def examples():
    finder = doctest.DocTestFinder(recurse=True)
    tests = {}
    for name, value in public_objects().items():
        for test in finder.find(value, name, globs={}):
            # The same object under two names counts once; a class and its methods
            # are tests of their own.
            if test.examples:
                tests.setdefault((test.filename, test.lineno), test)
    return sorted(tests.values(), key=lambda test: test.name)


@pytest.fixture
def names_in_examples(tmp_path):
    """What the examples may use without saying so."""
    backbone = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu")]
    )
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 8)
    x = rng.integers(0, 256, size=(64, 8, 8, 1)).astype("uint8")
    embeddings = rng.normal(size=(8, 4))[y] + 0.5 * rng.normal(size=(64, 4))
    many = np.repeat(np.arange(60), 4)
    apart = rng.normal(size=(60, 8))[many] + 0.3 * rng.normal(size=(240, 8))
    return {
        "np": np,
        "keras": keras,
        "keras_tcm": keras_tcm,
        "backbone": backbone,
        "model": keras_tcm.models.embedding_model(backbone, 4),
        "x": x,
        "y": y,
        "labels": y,
        "embeddings": embeddings,
        "threshold": keras_tcm.choose_threshold(apart, many, far=0.1),
        "result": evaluate_embeddings(embeddings, y),
        "path": str(tmp_path / "result.json"),
        "sampler": keras_tcm.data.ClassBalancedSampler(
            x, y, classes_per_batch=4, samples_per_class=2, seed=0
        ),
    }


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example(example, names_in_examples, monkeypatch):
    if "visualization" in example.name:
        import matplotlib

        matplotlib.use("Agg")
    example.globs = names_in_examples
    runner = doctest.DocTestRunner(
        NumericOutput(), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    report = []
    runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_examples_are_found():
    names = {example.name.rpartition(".")[2] for example in examples()}
    assert {"TCM", "OPIS", "RecallAtK", "evaluate_embeddings", "load"} <= names
    assert "to_html" in names, "of a method"
