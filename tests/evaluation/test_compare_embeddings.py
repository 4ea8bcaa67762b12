"""Two models on the same samples: values, resamples, intervals."""

import json
import math

import numpy as np
import pytest
from scipy import stats

import keras_tcm
from keras_tcm import compare_embeddings, evaluate_embeddings
from keras_tcm.evaluation import ModelComparison, UndefinedError
from keras_tcm.evaluation._class_figures import ClassFigures
from keras_tcm.ops.curves import epsilon_opis, opis_per_class
from keras_tcm.study.report import write_comparison

MEASURES = ["recall_at_1", "map_at_r", "opis", "epsilon_opis", "eer", "frr"]
NUM_CLASSES, PER_CLASS = 30, 6
Y = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)


def model(seed, spread=0.8, dimension=8, y=Y):
    """Embeddings whose classes are of different widths."""
    rng = np.random.default_rng(seed)
    num_classes = int(y.max()) + 1
    widths = spread * rng.uniform(0.5, 1.5, size=num_classes)
    noise = rng.normal(size=(len(y), dimension))
    return rng.normal(size=(num_classes, dimension))[y] + widths[y, None] * noise


FIRST, SECOND = model(0), model(1, spread=0.6, dimension=5)


@pytest.fixture(scope="module")
def comparison():
    return compare_embeddings(FIRST, SECOND, Y, num_resamples=2000)


@pytest.fixture(scope="module")
def figures():
    return ClassFigures.of(FIRST, Y, None, None)


def frr(evaluation):
    return evaluation.operating_point(0.01).frr


# ------------------------------------------------------------------------------ values


def test_values_are_those_of_the_evaluations(comparison):
    assert sorted(comparison.changes) == sorted(MEASURES)
    for name, x in ("first", FIRST), ("second", SECOND):
        expected = evaluate_embeddings(x, Y)
        evaluation = getattr(comparison, name)
        assert evaluation.opis == pytest.approx(expected.opis, rel=1e-6)
        assert len(evaluation.operating_points) == 3
        values = {key: getattr(comparison.changes[key], name) for key in MEASURES}
        assert values == {
            "recall_at_1": expected.recall[1],
            "map_at_r": pytest.approx(expected.map_at_r),
            "opis": pytest.approx(expected.opis, rel=1e-6),
            "epsilon_opis": pytest.approx(expected.epsilon_opis, rel=1e-6),
            "eer": pytest.approx(expected.eer),
            "frr": pytest.approx(frr(expected)),
        }


def test_changes_follow_from_the_values(comparison):
    for change in comparison.changes.values():
        assert change.difference.value == pytest.approx(change.second - change.first)
        assert change.relative.value == pytest.approx(change.second / change.first - 1)
        for estimate in change.difference, change.relative:
            low, high = estimate.interval
            assert low < estimate.value < high


def test_options_reach_the_evaluation():
    options = {
        "far_range": (0.05, 0.3),
        "beta": 2.0,
        "epsilon": 0.3,
        "distance": "euclidean",
    }
    comparison = compare_embeddings(FIRST, SECOND, Y, num_resamples=100, **options)
    expected = evaluate_embeddings(SECOND, Y, **options)
    assert comparison.second.opis == pytest.approx(expected.opis, rel=1e-6)
    assert comparison.changes["epsilon_opis"].second == pytest.approx(
        expected.epsilon_opis, rel=1e-6
    )


# ------------------------------------------------------------------- figures of classes


def test_hits_of_classes_are_those_of_the_nearest_neighbours(figures):
    unit = FIRST / np.linalg.norm(FIRST, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    is_hit = Y[np.argmax(cosines, axis=1)] == Y
    np.testing.assert_array_equal(figures.hits, np.bincount(Y, is_hit))


def test_average_precision_of_classes(figures):
    unit = FIRST / np.linalg.norm(FIRST, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, : PER_CLASS - 1]
    is_positive = Y[nearest] == Y[:, None]
    precision = is_positive.cumsum(axis=1) / np.arange(1, PER_CLASS)
    expected = (precision * is_positive).sum(axis=1) / (PER_CLASS - 1)
    np.testing.assert_allclose(figures.average_precision, np.bincount(Y, expected))


def test_resample_of_every_class_once_is_the_sample(figures):
    values = figures.resampled(np.ones((1, NUM_CLASSES), int))
    expected = figures.measures()
    for name in "recall_at_1", "map_at_r", "opis", "epsilon_opis":
        assert values[name] == pytest.approx(expected[name], rel=1e-9)
    # Interpolated between thresholds.
    for name in "eer", "frr":
        assert values[name] == pytest.approx(expected[name], rel=0.02)


def test_resamples_are_what_repeated_classes_give(figures):
    rng = np.random.default_rng(0)
    times = rng.multinomial(NUM_CLASSES, np.full(NUM_CLASSES, 1 / NUM_CLASSES), size=20)
    values = figures.resampled(times)
    for number, counts in enumerate(times):
        chosen = np.repeat(np.arange(NUM_CLASSES), counts)
        utility = figures.evaluation.utility[chosen]
        expected = {
            "recall_at_1": figures.hits[chosen].sum() / len(Y),
            "map_at_r": figures.average_precision[chosen].sum() / len(Y),
            "opis": opis_per_class(utility).mean(),
            "epsilon_opis": epsilon_opis(utility, 0.1),
        }
        for name, value in expected.items():
            assert values[name][number] == pytest.approx(value, rel=1e-9)


def test_rates_are_those_of_the_pairs_at_each_threshold(figures):
    """EER and FRR of a resample, from the pairs themselves weighted by class."""
    unit = FIRST / np.linalg.norm(FIRST, axis=1, keepdims=True)
    distances = 1 - unit @ unit.T
    is_other = ~np.eye(len(Y), dtype=bool)
    is_positive = (Y[:, None] == Y) & is_other
    is_negative = Y[:, None] != Y
    times = np.random.default_rng(1).integers(0, 3, NUM_CLASSES)
    times[0] += NUM_CLASSES - times.sum()
    assert times.min() >= 0
    weights = np.broadcast_to(times[Y][:, None], distances.shape)

    def rates(threshold):
        accepted = distances <= threshold
        far = weights[is_negative & accepted].sum() / weights[is_negative].sum()
        frr = 1 - weights[is_positive & accepted].sum() / weights[is_positive].sum()
        return far, frr

    far, frr = np.array([rates(d) for d in np.linspace(0, 1, 2001)]).T
    values = figures.resampled(times[None])
    crossing = np.argmin(np.abs(far - frr))
    assert values["eer"] == pytest.approx((far + frr)[crossing] / 2, rel=0.03)
    assert values["frr"] == pytest.approx(np.interp(0.01, far, frr), rel=0.03)


def test_samples_without_partner_stay_as_they_are():
    y = np.concatenate([Y, NUM_CLASSES + np.arange(20)])
    x = model(0, y=y)
    figures = ClassFigures.of(x, y, None, None)
    assert len(figures.hits) == NUM_CLASSES
    # Each of the 20 meets all others.
    assert figures.other_negatives == 20 * (len(y) - 1)
    expected = figures.measures()
    values = figures.resampled(np.ones((1, NUM_CLASSES), int))
    assert values["eer"] == pytest.approx(expected["eer"], rel=0.02)
    assert values["frr"] == pytest.approx(expected["frr"], rel=0.02)


def test_gallery():
    gallery_y = np.tile(np.arange(NUM_CLASSES), 4)
    galleries = model(5, y=gallery_y), model(6, dimension=5, y=gallery_y)
    comparison = compare_embeddings(
        FIRST,
        SECOND,
        Y,
        first_gallery=galleries[0],
        second_gallery=galleries[1],
        gallery_labels=gallery_y,
        num_resamples=200,
    )
    expected = evaluate_embeddings(
        SECOND, Y, gallery_embeddings=galleries[1], gallery_labels=gallery_y
    )
    change = comparison.changes["opis"]
    assert change.second == pytest.approx(expected.opis, rel=1e-6)
    figures = ClassFigures.of(SECOND, Y, galleries[1], gallery_y)
    values = figures.resampled(np.ones((1, NUM_CLASSES), int))
    for name, value in figures.measures().items():
        assert values[name] == pytest.approx(value, rel=0.02)


# --------------------------------------------------------------------------- intervals


def test_model_compared_with_itself_does_not_differ():
    comparison = compare_embeddings(FIRST, FIRST.copy(), Y, num_resamples=200)
    for change in comparison.changes.values():
        for estimate in change.difference, change.relative:
            assert estimate.value == 0
            assert estimate.interval == (0, 0)
            assert not estimate.excludes_zero


def test_swapping_the_models_negates_the_differences(comparison):
    swapped = compare_embeddings(SECOND, FIRST, Y, num_resamples=2000)
    for name, change in comparison.changes.items():
        other = swapped.changes[name].difference
        assert other.value == pytest.approx(-change.difference.value)
        low, high = change.difference.interval
        assert other.interval == pytest.approx((-high, -low))


def test_order_of_samples_and_names_of_classes_do_not_matter(comparison):
    order = np.random.default_rng(0).permutation(len(Y))
    # Names in the order of the numbers: the same resamples.
    names = np.array([f"class {label:02}" for label in Y])
    shuffled = compare_embeddings(
        FIRST[order], SECOND[order], names[order], num_resamples=2000
    )
    for name, change in comparison.changes.items():
        other = shuffled.changes[name].difference
        assert other.interval == pytest.approx(change.difference.interval, abs=1e-6)


def test_same_seed_same_intervals(comparison):
    for seed, is_same in (0, True), (1, False):
        other = compare_embeddings(FIRST, SECOND, Y, num_resamples=2000, seed=seed)
        interval = comparison.changes["opis"].difference.interval
        assert (other.changes["opis"].difference.interval == interval) is is_same


def test_interval_of_recall_is_about_that_of_a_paired_t_test(comparison):
    """For a mean over equally large classes, both estimate the same spread."""
    hits = [ClassFigures.of(x, Y, None, None).hits for x in (FIRST, SECOND)]
    test = stats.ttest_rel(hits[1] / PER_CLASS, hits[0] / PER_CLASS)
    expected = test.confidence_interval(0.95)
    low, high = comparison.changes["recall_at_1"].difference.interval
    assert high - low == pytest.approx(expected.high - expected.low, rel=0.1)
    assert (low + high) / 2 == pytest.approx(
        (expected.low + expected.high) / 2, abs=0.01
    )


def test_few_classes_widen_intervals_as_student_does():
    y = np.repeat(np.arange(5), 12)
    x = model(0, spread=1.2, y=y), model(1, spread=1.2, y=y)
    comparison = compare_embeddings(*x, y, num_resamples=20000)
    figures = [ClassFigures.of(one, y, None, None) for one in x]
    rng = np.random.default_rng(3)
    times = rng.multinomial(5, np.full(5, 0.2), size=20000)
    first, second = (one.resampled(times)["map_at_r"] for one in figures)
    quantile = stats.t.ppf(0.975, 4) * math.sqrt(5 / 4)
    tail = stats.norm.cdf(-quantile)
    expected = np.quantile(second - first, [tail, 1 - tail])
    assert comparison.changes["map_at_r"].difference.interval == pytest.approx(
        expected, abs=0.01
    )


def test_pairing_narrows_the_interval():
    """A model that errs on the same samples differs little from another."""
    alike = FIRST + 0.05 * np.random.default_rng(0).normal(size=FIRST.shape)
    other = model(9)
    widths = []
    for second in alike, other:
        change = compare_embeddings(FIRST, second, Y, num_resamples=500)
        low, high = change.changes["map_at_r"].difference.interval
        widths.append(high - low)
    assert widths[0] < widths[1] / 3


# ------------------------------------------------------------------------ limits, files


def test_measure_that_is_zero_has_no_relative_change():
    perfect = np.eye(NUM_CLASSES)[Y] + 0.02 * model(0, dimension=NUM_CLASSES)
    comparison = compare_embeddings(perfect, FIRST, Y, num_resamples=200)
    assert comparison.changes["eer"].first == 0
    assert comparison.changes["eer"].relative is None
    assert comparison.changes["eer"].difference.interval[0] > 0
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_frr_is_left_out_where_the_far_is_not_resolved(tmp_path):
    y = np.repeat(np.arange(4), 3)
    x = model(0, y=y), model(1, y=y)
    comparison = compare_embeddings(*x, y, far_range=(0.1, 0.5), num_resamples=200)
    assert sorted(comparison.changes) == sorted(set(MEASURES) - {"frr"})
    write_comparison(tmp_path, comparison)
    assert "not resolved" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_json_holds_the_changes(tmp_path, comparison):
    write_comparison(tmp_path, comparison)
    values = json.loads((tmp_path / "compare.json").read_text())
    assert values == json.loads(json.dumps(comparison.to_dict()))
    assert values["format"] == "keras_tcm.ModelComparison"
    assert values["classes"] == NUM_CLASSES
    assert values["num_resamples"] == 2000
    change = comparison.changes["opis"]
    assert values["changes"]["opis"] == {
        "first": change.first,
        "second": change.second,
        "difference": {
            "value": change.difference.value,
            "interval": list(change.difference.interval),
        },
        "relative": {
            "value": change.relative.value,
            "interval": list(change.relative.interval),
        },
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_resamples": 99}, r"`num_resamples`.*99"),
        ({"seed": -1}, r"`seed`.*-1"),
        ({"names": ("a", "a")}, r"`names`.*a"),
        ({"second": SECOND[:-1]}, r"^second: `labels`"),
        ({"second": SECOND * np.nan}, r"^second: `embeddings`"),
        ({"first": FIRST[:, 0]}, r"^first: `embeddings`.*shape"),
        ({"second_gallery": SECOND}, r"^second: `gallery_labels`"),
        ({"epsilon": 2.0}, r"`epsilon`.*2\.0"),
    ],
)
def test_mistakes(options, message):
    arguments = {"first": FIRST, "second": SECOND, "labels": Y, **options}
    with pytest.raises(ValueError, match=message):
        compare_embeddings(**arguments)


class Undecodable:
    """Something whose conversion to an array fails unusually."""

    def __array__(self, *arguments, **options):
        return b"\xff".decode("utf-8")


def test_errors_of_any_kind_name_the_model():
    # Such an error cannot be made of a message alone.
    with pytest.raises(UnicodeDecodeError):
        np.asarray(Undecodable())
    with pytest.raises(UnicodeDecodeError, match="can't decode") as caught:
        compare_embeddings(FIRST, Undecodable(), Y)
    assert "'second'" in "".join(caught.value.__notes__)
    with pytest.raises(UndefinedError, match=r"^second: `embeddings`") as caught:
        compare_embeddings(FIRST, SECOND * np.nan, Y)
    assert isinstance(caught.value.__cause__, UndefinedError)
    with pytest.raises(TypeError, match=r"^first: `embeddings`"):
        compare_embeddings(FIRST.astype(str), SECOND, Y)


def test_a_file_that_is_not_there_names_the_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="`embeddings`") as caught:
        compare_embeddings(FIRST, [tmp_path / "second.npy"], Y, names=("old", "new"))
    assert "'new'" in "".join(caught.value.__notes__)


def test_result_is_what_is_exported(comparison):
    assert type(comparison) is ModelComparison
    assert keras_tcm.evaluation.compare_embeddings is compare_embeddings
