"""The definition agrees with an independent one, and the cases are what they say."""

import json
import math
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import oracles
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_tcm import reference
from keras_tcm.reference import definition

CASES = {case.name: case for case in reference.cases()}
EVALUATIONS = [name for name, case in CASES.items() if case.kind == "evaluation"]
LOSSES = [name for name, case in CASES.items() if case.kind == "tcm"]
# Where distances or thresholds are equal, or a similarity is a margin.
WITH_TIES = "by hand", "ties", "no utility", "TCM by hand", "TCM, on the margin"
NAMES = {"gallery_embeddings": "gallery", "gallery_labels": "gallery_labels"}


def oracle_of(inputs, options):
    """Quantities of the reference that the other tests compare with."""
    at = options.pop("at_thresholds")
    gallery = {
        NAMES[name]: value if name == "gallery_embeddings" else list(value)
        for name, value in inputs.items()
        if name in NAMES
    }
    labels = np.asarray(inputs["labels"]).tolist()
    found = oracles.evaluate(inputs["embeddings"], labels, **gallery, **options)
    pairs = oracles.all_pairs(inputs["embeddings"], labels, **gallery)
    pairs = [(oracles.from_cosine(d, options["distance"]), a, b) for d, a, b in pairs]

    def share(threshold, chosen):
        chosen = [d <= threshold + 1e-9 for d, a, b in pairs if chosen(a, b)]
        return sum(chosen) / len(chosen)

    def negative_of(label):
        if gallery:
            return lambda a, b: a == label != b
        return lambda a, b: (a == label) != (b == label)

    points = found.operating_points
    blank = [math.nan] * len(found.classes)
    # At a target of 1 the reference tells no rates of classes: all are accepted.
    everything = [point.threshold is None for point in points]
    far = [
        [1.0] * len(blank) if whole else point.per_class_far or blank
        for point, whole in zip(points, everything, strict=True)
    ]
    frr = [
        [0.0] * len(blank) if whole else point.per_class_frr or blank
        for point, whole in zip(points, everything, strict=True)
    ]
    return found, {
        "classes": found.classes,
        "calibration_range": found.calibration_range,
        "utility": found.utility,
        "opis_per_class": found.opis_per_class,
        "opis": found.opis,
        "epsilon_opis": found.epsilon_opis,
        "eer": found.eer,
        "recall": list(found.recall.values()),
        "map_at_r": found.map_at_r,
        "far": [share(t, lambda a, b: a != b) for t in at],
        "frr": [1 - share(t, lambda a, b: a == b) for t in at],
        "per_class_far": [
            [share(t, negative_of(c)) for t in at] for c in found.classes
        ],
        "per_class_frr": [
            [1 - share(t, lambda a, b, c=c: a == b == c) for t in at]
            for c in found.classes
        ],
        "operating_threshold": [
            2.0 if whole else point.threshold
            for point, whole in zip(points, everything, strict=True)
        ],
        "operating_far": [point.far for point in points],
        "operating_frr": [
            0.0 if whole else point.frr
            for point, whole in zip(points, everything, strict=True)
        ],
        "operating_per_class_far": np.transpose(far),
        "operating_per_class_frr": np.transpose(frr),
    }


def assert_agree(computed, expected, of_ranges=2e-12):
    assert computed.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            np.array(computed[name], float),
            np.array(value, float),
            rtol=1e-11,
            atol=of_ranges if name == "calibration_range" else 2e-12,
            err_msg=name,
        )


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation_cases_agree_with_the_reference(name):
    case = CASES[name]
    found, expected = oracle_of(case.inputs, dict(case.options))
    assert found.decided.all()
    assert_agree(case.expected, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_tcm_cases_agree_with_the_reference(name):
    case = CASES[name]
    x, y = case.inputs["embeddings"], case.inputs["labels"]
    value, gradient = oracles.tcm_value_and_gradient(x, y, **case.options)
    assert_agree(case.expected, {"loss": value, "gradient": gradient})


def lie_apart(d, *more):
    """Whether no two of these distances differ by little, without being equal."""
    gaps = np.diff(np.sort(np.concatenate([np.ravel(d), *more])))
    return not np.any((gaps > 1e-10) & (gaps < 5e-6))


@st.composite
def evaluations(draw):
    """Inputs on a grid, with ties, or drawn at random; and options."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=3, max_size=6))
    assume(sum(size > 1 for size in sizes) > 1)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if draw(st.booleans()):
        x = rng.integers(-2, 3, (len(labels), 3))
        assume(np.abs(x).sum(axis=1).min() > 0)
    else:
        x = rng.normal(size=(len(sizes), 3))[labels]
        x = x + 0.6 * rng.normal(size=(len(labels), 3))
    inputs = {"embeddings": x, "labels": labels}
    if draw(st.booleans()):
        query = rng.random(len(labels)) < 0.5
        inputs = {
            "embeddings": x[query],
            "labels": labels[query],
            "gallery_embeddings": x[~query],
            "gallery_labels": labels[~query],
        }
    bounds = draw(
        st.sampled_from(
            [
                {"far_range": (0.1, 0.4)},
                {"far_range": (0.07, 0.85)},
                {"frr_range": (0.1, 0.6)},
                {"calibration_range": (0.25, 1.0)},
            ]
        )
    )
    return inputs, {
        **bounds,
        "beta": draw(st.sampled_from([0.5, 1.0, 2.0])),
        "epsilon": draw(st.sampled_from([0.1, 0.5, 0.8])),
        "distance": draw(st.sampled_from(["cosine", "euclidean"])),
        "num_thresholds": draw(st.sampled_from([2, 7])),
        "recall_at": (1, 3),
        "far_targets": (0.01, 0.2, 0.5, 1.0),
        "at_thresholds": (0.3, 1.0),
    }


@settings(max_examples=60)
@given(evaluations())
def test_evaluations_agree_with_the_reference(drawn):
    inputs, options = drawn
    d = definition.distances(inputs["embeddings"], inputs.get("gallery_embeddings"))
    pairs = definition.pairs_of(d, inputs["labels"], inputs.get("gallery_labels"))
    assume(len(definition.classes_of(pairs)) > 1)
    cuts = np.array(options["at_thresholds"])
    cuts = cuts**2 / 2 if options["distance"] == "euclidean" else cuts
    assume(lie_apart(pairs.distance, cuts))
    source = pairs.distance[pairs.positive == ("frr_range" in options)]
    low, high = np.quantile(source, (0.2, 0.3))
    assume(low < high)
    found, expected = oracle_of(inputs, dict(options))
    assume(found.decided.all())
    # Rounding must not choose the worst of classes that are equally good.
    means = definition.mean_over_range(found.utility, found.thresholds)
    order = np.argsort(means, kind="stable")
    first = max(1, int(options["epsilon"] * len(means) + 1e-9))
    assume(means[order[first]] - means[order[first - 1]] > 1e-9)
    # Equal vectors have no distance; the reference has the square root of its rounding.
    of_ranges = 1e-7 if options["distance"] == "euclidean" else 2e-12
    assert_agree(definition.evaluate(**inputs, **options), expected, of_ranges)


@given(st.integers(0, 10**6), st.sampled_from([(0.9, 0.5), (0.2, -0.3), (1.0, -1.0)]))
def test_tcm_agrees_with_the_reference(seed, margins):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(9, 3)), rng.integers(3, size=9)
    weights = rng.uniform(0, 3, 2).tolist()
    computed = definition.tcm(x, y, *margins, *weights)
    value, gradient = oracles.tcm_value_and_gradient(x, y, None, *margins, *weights)
    assert_agree(computed, {"loss": value, "gradient": gradient})


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in WITH_TIES])
def test_gradients_by_finite_differences(name):
    case = CASES[name]
    expected = oracles.finite_differences(
        lambda x: definition.tcm(x, case.inputs["labels"], **case.options)["loss"],
        case.inputs["embeddings"],
    )
    np.testing.assert_allclose(case.expected["gradient"], expected, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_nothing_that_is_compared_lies_close(name):
    """Float32 decides as float64 does: a tolerance tells rounding from mistakes."""
    case = CASES[name]
    x, options = case.inputs["embeddings"], case.options
    gallery = case.inputs.get("gallery_embeddings")
    s = oracles.similarities(x, gallery)
    s = s[np.triu_indices(len(s), 1)] if gallery is None else s.ravel()
    if case.kind == "tcm":
        cuts = 1 - np.array([options["positive_margin"], options["negative_margin"]])
    else:
        cuts = np.linspace(
            *case.expected["calibration_range"], options["num_thresholds"]
        )
        cuts = np.append(cuts, options["at_thresholds"])
        cuts = [oracles.to_cosine(d, options["distance"]) for d in cuts]
    assert lie_apart(1 - s, cuts)
    if name not in WITH_TIES:
        assert np.diff(np.sort([*(1 - s), *cuts])).min() > 5e-6


def test_inputs_are_exact():
    """Every language reads the same numbers, in float32 too."""
    for case in CASES.values():
        for name, value in case.inputs.items():
            if name.endswith("embeddings"):
                np.testing.assert_array_equal(value * 64, np.rint(value * 64))
                np.testing.assert_array_equal(value.astype("float32"), value)


def test_by_hand():
    """The case of the page, in fractions."""
    expected = CASES["by hand"].expected
    # Negative distances 0.2, 0.4, 1.352 and 1.6; positive ones 0.04 and 0.72.
    assert expected["calibration_range"] == pytest.approx([0.35, 1.414], rel=1e-12)
    np.testing.assert_allclose(
        expected["utility"], [[6 / 7, 2 / 3, 0.4], [0, 2 / 3, 0.4]], rtol=1e-12
    )
    assert expected["opis"] == pytest.approx(9 / 196, rel=1e-12)
    assert expected["epsilon_opis"] == pytest.approx(9 / 49, rel=1e-12)
    assert expected["eer"] == 0.5
    assert expected["recall"].tolist() == [0.75, 1]
    assert expected["map_at_r"] == 0.75
    assert expected["far"] == 0.5
    # Targets of 10%, 25% and 50% of four pairs: none, one and two.
    np.testing.assert_allclose(
        expected["operating_threshold"], [np.nan, 0.4, 1.352], atol=1e-9
    )
    np.testing.assert_array_equal(expected["operating_far"], [np.nan, 0.25, 0.5])
    np.testing.assert_array_equal(expected["operating_frr"], [np.nan, 0.5, 0])


def test_tcm_by_hand():
    loss = {name: CASES[name].expected["loss"] for name in LOSSES}
    assert loss["TCM by hand"] == pytest.approx((0.9 - 0.8) + (0.6 - 0.5), rel=1e-12)
    # The positive pair is at 0.7; the negative ones are at 0.5 and at 0.6.
    assert loss["TCM, on the margin"] == pytest.approx(0.2 + (0 + 0.1) / 2, rel=1e-12)
    assert loss["TCM, no hard pair"] == 0
    assert not CASES["TCM, no hard pair"].expected["gradient"].any()


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("TCM, no hard positive pair", "positive_weight"),
        ("TCM, no hard negative pair", "negative_weight"),
    ],
)
def test_terms_without_a_hard_pair_add_nothing(name, weight):
    case = CASES[name]
    assert case.expected["loss"] > 0
    options = {**case.options, weight: 100.0}
    assert_agree(definition.tcm(**case.inputs, **options), case.expected)


def test_it_runs_without_the_package(tmp_path):
    """Two files and NumPy; a wrong number is noticed."""
    folder = pathlib.Path(definition.__file__).parent
    for name in "definition.py", "cases.json":
        shutil.copy(folder / name, tmp_path)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-I", tmp_path / "definition.py", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agree") == len(CASES)
    file = json.loads((tmp_path / "cases.json").read_text("utf-8"))
    file["cases"][0]["expected"]["opis"] += 1e-6
    (tmp_path / "wrong.json").write_text(json.dumps(file), "utf-8")
    done = run(tmp_path / "wrong.json")
    assert done.returncode != 0
    assert "opis of by hand" in done.stderr


def test_it_imports_nothing_but_numpy():
    text = pathlib.Path(definition.__file__).read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith(("import", "from"))]
    assert lines == [
        "import json",
        "import pathlib",
        "import sys",
        "from typing import Any, NamedTuple",
        "import numpy as np",
    ]
