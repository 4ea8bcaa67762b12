"""Stacked embeddings of two towers are queries and a gallery of the same labels."""

import concurrent.futures
import warnings

import keras
import numpy as np
import pytest
from test_distributed_evaluation import PickledParts

from keras_tcm import (
    ScoreNormalization,
    choose_threshold,
    compare_embeddings,
    evaluate_embeddings,
)
from keras_tcm.evaluation import UndefinedError, count_classes
from keras_tcm.relevance import HierarchyLevel, SharedLabel

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat(np.arange(40), 3))
ITEMS = RNG.normal(size=(40, 6))[LABELS] + 0.5 * RNG.normal(size=(120, 6))
STACKED = np.stack([ITEMS + 0.5 * RNG.normal(size=ITEMS.shape), ITEMS], axis=1)
STACKED = STACKED.astype("float32")
# Bit for bit the gallery's: neither a word about it, nor another pair.
STACKED[:7, 0] = STACKED[:7, 1]


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def split(stacked=STACKED, labels=LABELS):
    """The same as two arrays."""
    return stacked[:, 0], {
        "gallery_embeddings": stacked[:, 1],
        "gallery_labels": labels,
    }


def expected(function, *arguments, stacked=STACKED, labels=LABELS, **options):
    queries, gallery = split(stacked, labels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* finds itself")
        return function(queries, labels, *arguments, **gallery, **options)


def evaluate(*arguments, **options):
    return evaluate_embeddings(*arguments, verbose=False, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distance": "euclidean", "at_thresholds": (0.5,)},
        {"max_pairs": 10_000},
        {"groups": LABELS % 3, "group_pairs": "one_end"},
    ],
    ids=["all", "euclidean", "sampled", "groups"],
)
def test_evaluation(options):
    result = evaluate(STACKED, LABELS, **options)
    assert result.to_dict() == expected(evaluate, **options).to_dict()
    assert result.num_positive_pairs == 40 * 3 * 3


def test_score_normalization():
    normalization = ScoreNormalization(ITEMS[:50], top=9)
    options = {"score_normalization": normalization}
    result = evaluate(STACKED, LABELS, **options)
    assert result.to_dict() == expected(evaluate, **options).to_dict()


@pytest.mark.parametrize("kind", ["hierarchy", "shared"])
def test_relevance(kind):
    if kind == "hierarchy":
        labels = np.column_stack([LABELS // 2, LABELS])
        options = {"relevance": HierarchyLevel(0)}
    else:
        labels = np.eye(20, dtype=int)[LABELS // 2]
        options = {"relevance": SharedLabel()}
    result = evaluate(STACKED, labels, **options)
    assert result.to_dict() == expected(evaluate, labels=labels, **options).to_dict()


@pytest.mark.parametrize(
    "kind", ["list", "tensor", "bfloat16", "memmap", "files", "strides"]
)
def test_kinds_of_arrays(kind, tmp_path):
    stacked, labels, plain = STACKED, LABELS, STACKED
    if kind == "list":
        stacked, plain = STACKED.tolist(), STACKED.astype("float64")
    elif kind == "tensor":
        stacked = keras.ops.convert_to_tensor(STACKED)
    elif kind == "bfloat16":
        stacked = keras.ops.cast(keras.ops.convert_to_tensor(STACKED), "bfloat16")
        plain = keras.ops.convert_to_numpy(keras.ops.cast(stacked, "float32"))
    elif kind == "memmap":
        np.save(tmp_path / "x.npy", STACKED)
        stacked = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind == "files":
        stacked, labels = [], []
        for number, some in enumerate((slice(40), slice(40, 41), slice(41, None))):
            for paths, array in (stacked, STACKED), (labels, LABELS):
                paths.append(tmp_path / f"{number}-{array.ndim}.npy")
                np.save(paths[-1], array[some])
    elif kind == "strides":
        stacked = np.asfortranarray(STACKED)
    values = expected(evaluate, stacked=plain).to_dict()
    assert evaluate(stacked, labels).to_dict() == values


def test_other_processes_read_the_files(tmp_path):
    np.save(tmp_path / "x.npy", STACKED)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    values = evaluate(STACKED, LABELS, block_size=32).to_dict()
    for stacked in mapped, [tmp_path / "x.npy"], STACKED:
        client = PickledParts()
        found = evaluate(stacked, LABELS, block_size=32, client=client)
        assert found.to_dict() == values
    with concurrent.futures.ThreadPoolExecutor(2) as client:
        found = evaluate(STACKED, LABELS, block_size=32, client=client)
        assert found.to_dict() == values


def test_threshold():
    threshold = choose_threshold(STACKED, LABELS, far=0.2)
    assert threshold.to_dict() == expected(choose_threshold, far=0.2).to_dict()
    assert threshold.has_gallery
    check = threshold.check(STACKED, LABELS)
    assert check.far == threshold.far
    counts = count_classes(STACKED, LABELS, far=0.1)
    assert counts.far.all_pairs == 120 * 120 - 360


def test_comparison():
    second = STACKED[:, :, ::-1] + 0.3 * RNG.normal(size=STACKED.shape)
    options = {"num_resamples": 200}
    found = compare_embeddings(STACKED, second, LABELS, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* finds itself")
        values = compare_embeddings(
            STACKED[:, 0],
            second[:, 0],
            LABELS,
            first_gallery=STACKED[:, 1],
            second_gallery=second[:, 1],
            gallery_labels=LABELS,
            **options,
        )
    assert found.to_dict() == values.to_dict()


def test_the_item_of_the_same_row_counts():
    """With one sample a class, the pair of the row is the only positive."""
    stacked = np.stack([np.eye(12), np.eye(12)], axis=1)
    stacked[9:, 1] *= -1
    result = evaluate(stacked, np.arange(12), calibration_range=(0.1, 0.9))
    assert result.num_positive_pairs == 12
    assert result.recall[1] == 9 / 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"gallery_embeddings": ITEMS, "gallery_labels": LABELS},
            r"`gallery_embeddings` must be None with `embeddings` of shape \(samples, "
            r"2, dimension\).*Received: gallery_embeddings of type ndarray$",
        ),
        ({"gallery_labels": LABELS}, "`gallery_labels` must be None with"),
        (
            {"gallery_includes_queries": True},
            "`gallery_includes_queries` must be False with .*queries=True$",
        ),
    ],
    ids=["gallery", "labels", "queries"],
)
@pytest.mark.parametrize("function", [evaluate_embeddings, choose_threshold])
def test_no_gallery_beside(function, options, message):
    far = {} if function is evaluate_embeddings else {"far": 0.1}
    with pytest.raises(ValueError, match=message):
        function(STACKED, LABELS, **far, **options)


def test_mistakes(tmp_path):
    for wrong in STACKED[:, :1], np.concatenate([STACKED, STACKED], axis=1):
        shape = rf"Received: embeddings.shape=\(120, {wrong.shape[1]}, 6\)"
        with pytest.raises(ValueError, match=rf"or \(samples, 2, dimension\).*{shape}"):
            evaluate(wrong, LABELS)
    np.save(tmp_path / "x.npy", STACKED[:, :1])
    with pytest.raises(ValueError, match=r"or \(samples, 2, dimension\)"):
        evaluate([tmp_path / "x.npy"], LABELS)
    with pytest.raises(ValueError, match=r"`embeddings` must have shape \(samples"):
        evaluate(STACKED[None], LABELS)
    with pytest.raises(ValueError, match="`gallery_embeddings` must have shape"):
        evaluate(ITEMS, LABELS, gallery_embeddings=STACKED, gallery_labels=LABELS)
    with pytest.raises(ValueError, match="`labels`"):
        evaluate(STACKED, LABELS[:-1])
    broken = STACKED.copy()
    broken[5, 1, 0] = np.nan
    with pytest.raises(UndefinedError, match=r"`embeddings\[:, 1\]` must be finite"):
        evaluate(broken, LABELS)
