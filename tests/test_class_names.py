"""The name of each label, in every form that users have at hand."""

import json

import numpy as np
import pytest

from keras_tcm import evaluate_embeddings
from keras_tcm.class_names import names_of


@pytest.mark.parametrize(
    ("labels", "class_names", "expected"),
    [
        ([2, 0], ["a", "b", "c"], ["c", "a"]),
        ([2, 0], ("a", "b", "c"), ["c", "a"]),
        ([2, 0], np.array(["a", "b", "c"]), ["c", "a"]),
        ([2, -7], {-7: "x", 2: "y"}, ["y", "x"]),
        ([np.int64(2)], {2: "y"}, ["y"]),
        (["k", "l"], {"l": "x", "k": "x"}, ["x", "x"]),
        ([(1, "a"), True], {(1, "a"): "x", True: "y"}, ["x", "y"]),
        ([False, True], ["no", "yes"], ["no", "yes"]),
        ([3, "k", (1,)], None, ["3", "k", "(1,)"]),
        ([1], ["a", ""], [""]),
    ],
)
def test_names(labels, class_names, expected):
    assert names_of(labels, class_names) == expected


def test_labels_of_a_file_find_the_names_of_what_they_were():
    x = np.random.default_rng(0).normal(size=(8, 3))
    labels = [("shelf", i // 2) for i in range(8)]
    saved = json.loads(
        json.dumps(
            evaluate_embeddings(x, labels, calibration_range=(0.5, 1.0)).to_dict()
        )
    )
    names = {("shelf", i): f"name {i}" for i in range(4)}
    found = names_of(saved["classes"], names)
    assert found == [f"name {i}" for i in range(4)]


@pytest.mark.parametrize(
    ("labels", "class_names", "error", "message"),
    [
        ([3], ["a", "b", "c"], ValueError, "without 3"),
        # No counting from the end.
        ([-1], ["a", "b", "c"], ValueError, "without -1"),
        (["a"], ["a", "b"], ValueError, "without 'a'"),
        ([1, 2], {1: "a"}, ValueError, "without 2"),
        ([1], "abc", TypeError, "'abc'"),
        ([1], b"abc", TypeError, "b'abc'"),
        ([1], {"a", "b"}, TypeError, "Received: class_names="),
        ([1], iter("ab"), TypeError, "Received: class_names="),
        ([1], 5, TypeError, "Received: class_names=5"),
        ([1], [0, None], TypeError, r"class_names\[1\]=None"),
        ([1], {1: 7}, TypeError, r"class_names\[1\]=7"),
    ],
)
def test_what_is_no_name(labels, class_names, error, message):
    with pytest.raises(error, match=f"`class_names`.*{message}"):
        names_of(labels, class_names)
