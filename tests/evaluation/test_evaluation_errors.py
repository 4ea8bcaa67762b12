"""Every error says which argument, what was expected and what came."""

import re

import numpy as np
import pytest

from keras_tcm import evaluate_embeddings

LABELS = np.repeat(np.arange(5), 6)
X = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")


def raises(argument, message=""):
    return pytest.raises(
        (ValueError, TypeError), match=rf"(?s)`{argument}`.*{message}.*Received: "
    )


def with_entries(value, *rows):
    x = X.copy()
    x[list(rows), 1] = value
    return x


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"far_range": (0.1, 0.01)}, "far_range"),
        ({"far_range": (0.1, 0.1)}, "far_range"),
        ({"far_range": (0.0, 0.1)}, "far_range"),
        ({"far_range": (-0.1, 0.1)}, "far_range"),
        ({"far_range": (0.1, 1.1)}, "far_range"),
        ({"far_range": (0.1, float("nan"))}, "far_range"),
        ({"far_range": 0.1}, "far_range"),
        ({"far_range": (0.1, 0.2, 0.3)}, "far_range"),
        ({"frr_range": (0.2, 0.1)}, "frr_range"),
        ({"frr_range": (0.2, 1.5)}, "frr_range"),
        ({"calibration_range": (0.5, 0.5)}, "calibration_range"),
        ({"calibration_range": (0.6, 0.5)}, "calibration_range"),
        ({"calibration_range": (-0.1, 0.5)}, "calibration_range"),
        ({"calibration_range": "wide"}, "calibration_range"),
        ({"beta": 0.0}, "beta"),
        ({"beta": -1.0}, "beta"),
        ({"beta": float("inf")}, "beta"),
        ({"beta": "one"}, "beta"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 1.0}, "epsilon"),
        ({"epsilon": None}, "epsilon"),
        ({"distance": "manhattan"}, "distance"),
        ({"num_thresholds": 1}, "num_thresholds"),
        ({"num_thresholds": 10.5}, "num_thresholds"),
        ({"recall_at": (0, 1)}, "recall_at"),
        ({"recall_at": (1.5,)}, "recall_at"),
        ({"recall_at": 1}, "recall_at"),
        ({"far_targets": (0.0,)}, "far_targets"),
        ({"far_targets": (1.1,)}, "far_targets"),
        ({"far_targets": 0.1}, "far_targets"),
        ({"block_size": 0}, "block_size"),
        ({"block_size": "large"}, "block_size"),
        ({"verbose": "loud"}, "verbose"),
    ],
    ids=str,
)
def test_option(options, argument):
    with raises(argument):
        evaluate_embeddings(X, LABELS, **options)


def test_one_range_at_a_time():
    with raises("frr_range", "`calibration_range`"):
        evaluate_embeddings(
            X, LABELS, frr_range=(0.1, 0.2), calibration_range=(0.1, 0.2)
        )


@pytest.mark.parametrize(
    ("x", "argument"),
    [
        (X[0], "embeddings"),
        (X[:, :, None], "embeddings"),
        (X[:0], "embeddings"),
        (X[:, :0], "embeddings"),
        (X.astype("complex64"), "embeddings"),
        (X.astype("str"), "embeddings"),
    ],
    ids=["rank-1", "rank-3", "no-samples", "no-dimension", "complex", "strings"],
)
def test_embeddings(x, argument):
    labels = LABELS[: len(x)]
    with raises(argument):
        evaluate_embeddings(x, labels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value):
    with raises("embeddings") as caught:
        evaluate_embeddings(with_entries(value, 7, 19, 28), LABELS)
    received = str(caught.value).split("Received:")[1]
    # Three rows of 30, the first at index 7.
    assert {"3", "7"} <= set(re.findall(r"\d+", received))


def test_not_finite_in_the_gallery():
    with raises("gallery_embeddings") as caught:
        evaluate_embeddings(
            X,
            LABELS,
            gallery_embeddings=with_entries(np.nan, 11),
            gallery_labels=LABELS,
        )
    assert {"1", "11"} <= set(re.findall(r"\d+", str(caught.value)))


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(LABELS[:-1], id="too-few"),
        pytest.param(np.append(LABELS, 0), id="too-many"),
        pytest.param(np.stack([LABELS, LABELS], axis=1), id="rank-2"),
        pytest.param(LABELS + 0.5, id="not-whole"),
        pytest.param((LABELS + 0.5).tolist(), id="not-whole-list"),
        pytest.param(np.where(LABELS == 0, np.nan, LABELS), id="nan"),
        pytest.param([*LABELS[:-1].tolist(), {}], id="unhashable"),
        pytest.param([], id="none"),
        pytest.param(None, id="missing"),
        pytest.param(3, id="number"),
    ],
)
def test_labels(labels):
    with raises("labels"):
        evaluate_embeddings(X, labels)


@pytest.mark.parametrize(
    "labels",
    [np.zeros(30, int), np.arange(30), np.append(np.zeros(2, int), np.arange(1, 29))],
    ids=["one-class", "no-positive-pair", "one-class-with-a-pair"],
)
def test_fewer_than_two_eligible_classes(labels):
    with raises("labels", "two"):
        evaluate_embeddings(X, labels)


def test_far_range_that_the_negative_pairs_do_not_resolve():
    # 2 x 2 classes of 3 give 9 negative pairs, the smallest FAR is 1 / 9.
    with raises("far_range") as caught:
        evaluate_embeddings(X[:6], np.repeat([0, 1], 3))
    message = str(caught.value)
    assert "9" in re.findall(r"\d+", message)
    assert "0.11" in message
    evaluate_embeddings(X[:6], np.repeat([0, 1], 3), far_range=(0.12, 0.5))


def test_collapsed_embeddings_have_no_calibration_range():
    with raises("far_range", "distance"):
        evaluate_embeddings(np.ones((30, 4)), LABELS)
    with raises("frr_range", "distance"):
        evaluate_embeddings(np.ones((30, 4)), LABELS, frr_range=(0.1, 0.5))
    result = evaluate_embeddings(np.ones((30, 4)), LABELS, calibration_range=(0.1, 0.5))
    assert result.opis == 0.0


class TestGallery:
    def test_labels_missing(self):
        with raises("gallery_labels"):
            evaluate_embeddings(X, LABELS, gallery_embeddings=X[:10])

    def test_embeddings_missing(self):
        with raises("gallery_embeddings"):
            evaluate_embeddings(X, LABELS, gallery_labels=LABELS)

    def test_other_dimension(self):
        with raises("gallery_embeddings"):
            evaluate_embeddings(
                X, LABELS, gallery_embeddings=X[:, :3], gallery_labels=LABELS
            )

    def test_lengths(self):
        with raises("gallery_labels"):
            evaluate_embeddings(
                X, LABELS, gallery_embeddings=X[:10], gallery_labels=LABELS
            )

    def test_empty(self):
        with raises("gallery_embeddings"):
            evaluate_embeddings(
                X, LABELS, gallery_embeddings=X[:0], gallery_labels=LABELS[:0]
            )

    def test_no_common_class(self):
        with raises("labels", "two"):
            evaluate_embeddings(
                X, LABELS, gallery_embeddings=X[:10], gallery_labels=LABELS[:10] + 50
            )


def test_positional_options_are_refused():
    with pytest.raises(TypeError):
        evaluate_embeddings(X, LABELS, X, LABELS)
