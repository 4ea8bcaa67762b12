"""What makes a pair positive: the objects themselves, and their page."""

import json
import pathlib
import re

import keras
import numpy as np
import pytest

from keras_tcm.relevance import (
    ClassRelevance,
    FunctionRelevance,
    HierarchyLevel,
    Relevance,
    SharedLabel,
    get_relevance,
)

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "relevance.md"


@keras.saving.register_keras_serializable(package="tests_of_relevance")
def within_one(anchors, partners):
    return keras.ops.abs(anchors[:, None] - partners[None, :]) <= 1


def compare(relevance, anchors, partners=None):
    """Pairs as NumPy booleans, from tensors."""
    partners = anchors if partners is None else partners
    result = relevance(*map(keras.ops.convert_to_tensor, (anchors, partners)))
    assert keras.backend.standardize_dtype(result.dtype) == "bool"
    return keras.ops.convert_to_numpy(result)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint8", "bool"])
def test_shared_label_by_hand(dtype):
    anchors = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]).astype(dtype)
    partners = np.array([[0, 1, 1, 0], [0, 0, 0, 1]]).astype(dtype)
    found = compare(SharedLabel(), anchors, partners)
    assert found.tolist() == [[True, False], [True, False], [False, False]]
    assert compare(SharedLabel(4), anchors).tolist() == np.diag([1, 1, 0]).tolist()


def test_shared_label_counts_no_label_twice_and_none_below_zero():
    scores = np.array([[0.25, -3.0], [2.0, 0.0], [-0.5, 1e-3]], "float32")
    found = compare(SharedLabel(), scores)
    np.testing.assert_array_equal(found, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    # 300 labels in common, more than eight bits or a half-precision count hold.
    many = np.ones((2, 3000), "uint8")
    assert compare(SharedLabel(), many).all()


def test_hierarchy_level_by_hand():
    # Ids begin anew: the 5 of the last row is another 5.
    labels = np.array([[0, 5, 1], [0, 6, 1], [0, 5, 2], [1, 5, 1]])
    coarse = [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(compare(HierarchyLevel(0), labels), coarse)
    middle = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(compare(HierarchyLevel(1), labels), middle)
    np.testing.assert_array_equal(compare(HierarchyLevel(2), labels), np.eye(4))
    found = compare(HierarchyLevel(1), labels[:1], labels)
    np.testing.assert_array_equal(found, [[1, 0, 1, 0]])


def test_hierarchy_level_compares_integers_exactly():
    labels = np.array([[2**24, 0], [2**24 + 1, 0]], "int32")
    np.testing.assert_array_equal(compare(HierarchyLevel(0), labels), np.eye(2))


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8", "float32"])
def test_class_relevance_by_hand(dtype):
    # Rows are anchors: class 0 matches 1, but not the other way round.
    relevance = ClassRelevance([[True, True, False], [False, True, False], [0, 0, 0]])
    assert not relevance.is_symmetric
    found = compare(relevance, np.array([0, 1, 2, 1]).astype(dtype))
    np.testing.assert_array_equal(
        found, [[1, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]]
    )


def test_class_relevance_matches_no_unknown_label():
    found = compare(ClassRelevance(np.ones((2, 2))), np.array([0, 1, 2, -1, 100]))
    np.testing.assert_array_equal(found, np.outer([1, 1, 0, 0, 0], [1, 1, 0, 0, 0]))
    # More classes than the labels have bits for.
    wide = ClassRelevance(np.eye(300))
    found = compare(wide, np.array([0, 44, 255], "uint8"))
    np.testing.assert_array_equal(found, np.eye(3))


@pytest.mark.parametrize(
    ("matrix", "is_symmetric"),
    [(np.eye(3), True), (np.triu(np.ones((3, 3))), False), ([[0.2, 3], [1, 0]], True)],
)
def test_symmetry_of_a_matrix(matrix, is_symmetric):
    assert ClassRelevance(matrix).is_symmetric is is_symmetric


def test_function_by_hand():
    relevance = get_relevance(within_one)
    assert isinstance(relevance, FunctionRelevance)
    found = compare(relevance, np.array([1, 2, 5]), np.array([2, 4]))
    np.testing.assert_array_equal(found, [[1, 0], [1, 0], [0, 1]])


def test_function_may_return_numbers():
    relevance = FunctionRelevance(
        lambda a, b: keras.ops.cast(within_one(a, b), "float32")
    )
    found = compare(relevance, np.array([1, 2, 5]))
    np.testing.assert_array_equal(found, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a[:, None] == b[None, :-1],
        lambda a, b: a == a,
        lambda a, b: (a[:, None] == b[None, :])[..., None],
    ],
    ids=["too-narrow", "vector", "rank-3"],
)
def test_function_result_of_another_shape(function):
    with pytest.raises(ValueError, match=r"`relevance`.*\(3, 3\).*Received: shape"):
        compare(FunctionRelevance(function), np.array([1, 2, 5]))


@pytest.mark.parametrize(
    ("relevance", "shape"),
    [
        (SharedLabel(), (5,)),
        (SharedLabel(), (5, 3, 2)),
        (SharedLabel(4), (5, 3)),
        (SharedLabel(4), (None, 3)),
        (HierarchyLevel(0), (5,)),
        (HierarchyLevel(0), (5, 0)),
        (HierarchyLevel(2), (5, 2)),
        (HierarchyLevel(1), (5, 2, 2)),
        (ClassRelevance(np.eye(2)), (5, 1)),
        (ClassRelevance(np.eye(2)), ()),
        (FunctionRelevance(within_one), ()),
    ],
)
def test_labels_of_another_shape(relevance, shape):
    with pytest.raises(ValueError, match=r"`name` must .*Received: name\.shape=\("):
        relevance.check_labels("name", shape)


@pytest.mark.parametrize(
    ("relevance", "shape"),
    [
        (SharedLabel(), (None, 3)),
        (SharedLabel(3), (5, 3)),
        (HierarchyLevel(1), (None, 2)),
        (HierarchyLevel(1), (5, 4)),
        (ClassRelevance(np.eye(2)), (None,)),
        (FunctionRelevance(within_one), (5, 2, 3)),
    ],
)
def test_labels_of_the_right_shape(relevance, shape):
    relevance.check_labels("name", shape)


RELEVANCES = [
    SharedLabel(),
    SharedLabel(7),
    HierarchyLevel(0),
    HierarchyLevel(2),
    ClassRelevance([[1, 0], [0, 1]]),
    ClassRelevance([[1, 1], [0, 1]]),
    FunctionRelevance(within_one),
]


@pytest.mark.parametrize("number", range(len(RELEVANCES)))
def test_round_trip_and_equality(number):
    relevance = RELEVANCES[number]
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(relevance)))
    for again in (
        keras.saving.deserialize_keras_object(config),
        get_relevance(config),
        type(relevance).from_config(relevance.get_config()),
    ):
        assert type(again) is type(relevance)
        assert again == relevance
        assert hash(again) == hash(relevance)
        assert again.is_symmetric == relevance.is_symmetric
        assert [again == other for other in RELEVANCES].index(True) == number
        assert [again == other for other in RELEVANCES].count(True) == 1


def test_functions_of_the_same_name_differ():
    def within(years):
        def close(a, b):
            return keras.ops.abs(a[:, None] - b[None, :]) <= years

        return close

    one = within(1)
    assert FunctionRelevance(one) == FunctionRelevance(one)
    assert FunctionRelevance(one) != FunctionRelevance(within(2))


def test_get_relevance():
    assert get_relevance(None) is None
    shared = SharedLabel()
    assert get_relevance(shared) is shared

    class Parity(Relevance):
        def check_labels(self, name, shape):
            pass

        def __call__(self, anchor_labels, partner_labels):
            return (anchor_labels[:, None] - partner_labels[None, :]) % 2 == 0

    assert get_relevance(Parity()) == Parity()
    with pytest.raises(NotImplementedError):
        Relevance()(np.arange(2), np.arange(2))


@pytest.mark.parametrize("relevance", ["shared", 1, [1], SharedLabel])
def test_no_relevance(relevance):
    with pytest.raises(TypeError, match=r"`relevance` must be .*Received: relevance="):
        get_relevance(relevance)


@pytest.mark.parametrize(
    ("make", "argument", "name"),
    [
        (SharedLabel, 0, "num_labels"),
        (SharedLabel, 2.0, "num_labels"),
        (HierarchyLevel, -1, "level"),
        (HierarchyLevel, "fine", "level"),
        (HierarchyLevel, True, "level"),
        (ClassRelevance, np.ones((2, 3)), "matrix"),
        (ClassRelevance, np.ones(4), "matrix"),
        (ClassRelevance, np.ones((0, 0)), "matrix"),
        (ClassRelevance, [["a", "b"], ["c", "d"]], "matrix"),
    ],
)
def test_bad_arguments(make, argument, name):
    with pytest.raises((ValueError, TypeError), match=rf"`{name}`.*Received: "):
        make(argument)


@pytest.mark.slow
def test_the_page_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) > 3
    names = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)


def test_links_of_the_page_exist():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE.read_text(encoding="utf-8"))
    files = [link for link in links if not link.startswith("http")]
    assert files
    assert [link for link in files if not (PAGE.parent / link).exists()] == []
