"""Two labels are the same class exactly when they are equal in Python."""

import datetime
import decimal
import enum
import fractions
import itertools
import json
import tracemalloc

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.labels import (
    check_labels,
    encode_labels,
    json_labels,
    label_array,
    label_tensor,
)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Missing:
    """As NA of pandas: no comparison has a truth."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise TypeError("ambiguous")

    __ne__ = __eq__

    def __hash__(self):
        return 0


def number(*label_sets):
    """Classes, and the codes of each set."""
    known = [check_labels("labels", labels, len(labels)) for labels in label_sets]
    return encode_labels(*known)


def assert_classes_are_those_of_python(*label_sets):
    """The classes are those of a set of the values, and codes follow them."""
    values = [[x for x in labels] for labels in label_sets]
    classes, codes = number(*label_sets)
    assert len(classes) == len(set(itertools.chain(*values)))
    for labels, own in zip(values, codes, strict=True):
        assert own.dtype == np.int64
        assert [classes[code] == x for code, x in zip(own, labels, strict=True)] == (
            [True] * len(labels)
        )


TOP = 2**63
KINDS = {
    "numbers-that-are-equal": [[1, 1.0, True, 0, False, 0.0, -0.0, 2]],
    "beyond-64-bits": [[2**64, 2**64 + 1, 0, -(2**70)]],
    "signs-mixed-beyond-int64": [[TOP + 1, TOP + 2, -1, -2]],
    "one-float-among-large-integers": [[0.0, 2**53, 2**53 + 1, 2**53 + 2]],
    "int64": [np.array([2**62, 2**62 + 1, -(2**62)])],
    "uint64": [np.array([TOP, TOP + 1, 1, 1], np.uint64)],
    "uint64-beside-int64": [
        np.array([2**62 + 1, 2**62], np.uint64),
        np.array([2**62, -1], np.int64),
    ],
    "large-uint64-beside-int64": [
        np.array([TOP, TOP + 1], np.uint64),
        np.array([TOP - 1, -1], np.int64),
    ],
    "bool-beside-int": [np.array([True, False]), np.array([0, 1, 2], np.int8)],
    "small-beside-large-types": [
        np.array([1, 255], np.uint8),
        np.array([255, -1], np.int16),
        np.array([1.0, 255.0], np.float32),
    ],
    "array-beside-list": [np.array([TOP - 1, 5]), [TOP - 1, TOP, 5.0]],
    "nul-at-the-end": [["a", "a\0", "a\0\0", ""], ["a\0", "a"]],
    "bytes-beside-text": [["a", b"a", b"a\0"], [b"a", "a"]],
    "text-beside-numbers": [["1", 1, "True", True], np.array(["1", "2"])],
    "unicode-forms": [["\u00e9", "e\u0301", "E\u0301"]],
    "lone-surrogate": [["\ud800", "\ud801"]],
    "tuples": [[(1, "a"), (1, "b"), (1.0, "a"), ("1", "a")]],
    "decimals-and-fractions": [
        [decimal.Decimal("0.5"), fractions.Fraction(1, 2), decimal.Decimal(1), 1]
    ],
    "enums": [[Colour.RED, Colour.BLUE, Colour.RED, 1]],
    "integer-enums": [[Size.SMALL, 1, 2, Size.LARGE]],
    "frozen-sets": [[frozenset([1, 2]), frozenset([2, 1]), frozenset([1])]],
    "dates": [[datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)]],
    "dates-and-times": [[datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1)]],
    "numpy-scalars": [[np.int64(3), np.uint8(3), np.float32(3), np.True_, 1, "a"]],
    "numpy-text-scalars": [[np.str_("a\0"), "a", "a\0", np.bytes_(b"a")]],
    "object-array": [np.array([1, "1", 1.0, (1,), b"1"], dtype=object)],
    "complex": [[1 + 0j, 1, 2j]],
    "range": [range(5), [0, 4]],
}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_in_python(kind):
    assert_classes_are_those_of_python(*KINDS[kind])


_SCALARS = st.one_of(
    st.integers(),
    st.integers(-3, 3),
    st.integers(-3, 3).map(float),
    st.booleans(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, "a", "a\0", b"a"]),
)


@given(st.lists(st.one_of(_SCALARS, st.tuples(_SCALARS, _SCALARS)), min_size=1))
def test_any_mixture(labels):
    assert_classes_are_those_of_python(labels, labels[: len(labels) // 2])


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.integers(0, 2**64 - 1), min_size=1),
)
def test_integer_arrays(signed, unsigned):
    assert_classes_are_those_of_python(
        np.array(signed, np.int64), np.array(unsigned, np.uint64)
    )


def test_order():
    assert number([3, 1, 2, 1])[0] == [1, 2, 3]
    assert number(np.array(["b", "a"]))[0] == ["a", "b"]
    # No order: that of appearance.
    assert number(["b", 1, "a"])[0] == ["b", 1, "a"]


def test_dates_of_numpy_in_several_units():
    days = np.array(["2020-01-01", "2020-01-02", "1500-06-01"], "M8[D]")
    hours = np.array(["2020-01-02T00", "2020-01-02T01"], "M8[h]")
    nanoseconds = np.array(["2020-01-01", "2020-01-01T00:00:00.000000001"], "M8[ns]")
    scalars = [np.datetime64("2020-01-01T00:00:00.000"), np.datetime64("2020", "Y")]
    classes, codes = number(days, hours, nanoseconds, scalars)
    assert classes == [
        np.datetime64("1500-06-01"),
        np.datetime64("2020-01-01"),
        np.datetime64("2020-01-01T00:00:00.000000001"),
        np.datetime64("2020-01-02"),
        np.datetime64("2020-01-02T01"),
    ]
    assert [x.tolist() for x in codes] == [[1, 3, 0], [3, 4], [1, 2], [1, 1]]


def test_durations_of_numpy():
    classes, (codes, others) = number(
        np.array([1, 2], "m8[D]"), np.array([24, 25], "m8[h]")
    )
    assert len(classes) == 3
    assert codes[0] == others[0]


@pytest.mark.parametrize(
    "other", [[datetime.date(2020, 1, 1)], [1577836800], ["2020-01-01"], np.array([1])]
)
def test_dates_of_numpy_are_not_compared_with_anything_else(other):
    with pytest.raises(
        TypeError, match=r"`labels` must all be dates of NumPy.*Received"
    ):
        number(np.array(["2020-01-01"], "M8[D]"), other)


def test_records_are_tuples():
    records = np.array([(1, "a"), (1, "b"), (1, "a")], [("x", "i8"), ("y", "U3")])
    classes, (codes,) = number(records)
    assert classes == [(1, "a"), (1, "b")]
    assert codes.tolist() == [0, 1, 0]


def test_text_of_variable_width():
    string = getattr(np.dtypes, "StringDType", None)
    if string is None:
        pytest.skip("NumPy 2 has it")
    labels = np.array(["a", "bb", "a"], string())
    assert number(labels, ["bb"])[0] == ["a", "bb"]
    with pytest.raises(ValueError, match=r"`labels`.*missing.*\[1\]=None"):
        number(np.array(["a", None], string(na_object=None)))


def test_tensors_in_a_list_have_the_value_that_they_have():
    tensors = [keras.ops.convert_to_tensor(x) for x in (5, 7, 5)]
    classes, (codes, others) = number(tensors, [7, np.array(5)])
    assert classes == [5, 7]
    assert (codes.tolist(), others.tolist()) == ([0, 1, 0], [1, 0])


class TestFloats:
    """Whole numbers, as far as the type holds all of them."""

    @pytest.mark.parametrize(
        ("dtype", "first"),
        [
            ("float16", 2**11),
            ("float32", 2**24),
            ("float64", 2**53),
            (ml_dtypes.bfloat16, 2**8),
        ],
    )
    @pytest.mark.parametrize("as_list", [False, True])
    def test_range(self, dtype, first, as_list):
        labels = np.array([first - 1, -(first - 1), 0]).astype(dtype)
        beyond = np.array([0, -first]).astype(dtype)
        if as_list:
            labels, beyond = list(labels), list(beyond)
        assert number(labels)[0] == [1 - first, 0, first - 1]
        with pytest.raises(ValueError, match=r"`labels` must be integers.*\[1\]=-"):
            number(beyond)

    def test_python(self):
        assert number([2.0**53 - 1, 2**53])[0] == [2**53 - 1, 2**53]
        with pytest.raises(ValueError, match=r"`labels` must be integers.*float64"):
            number([0, 2.0**53])

    def test_long_double(self):
        assert number(np.array([3, 3, 4], np.longdouble))[0] == [3, 4]
        with pytest.raises(ValueError, match=r"`labels` must be integers"):
            number(np.array([2.0**70], np.longdouble))

    @pytest.mark.parametrize("value", [0.5, np.inf, np.nan, -np.inf])
    @pytest.mark.parametrize("as_list", [False, True])
    def test_not_whole(self, value, as_list):
        labels = np.array([1.0, value])
        with pytest.raises(ValueError, match=r"`labels` must be whole.*labels\[1\]="):
            number(labels.tolist() if as_list else labels)

    def test_not_whole_beside_text(self):
        """A name like any other there, but for what is no number."""
        classes, (codes,) = number(["a", 0.5, 2.0, 0.5, 2])
        assert [classes[code] for code in codes] == ["a", 0.5, 2, 0.5, 2]
        with pytest.raises(ValueError, match=r"`labels` must be whole.*\[1\]=inf"):
            number(["a", np.inf])


MISSING = {
    "none": [1, None],
    "none-beside-text": ["a", None],
    "none-in-objects": np.array(["a", None], dtype=object),
    "nan": [1, float("nan")],
    "numpy-nan": ["a", np.float32("nan")],
    "decimal-nan": [1, decimal.Decimal("nan")],
    "signalling-nan": [1, decimal.Decimal("snan")],
    "complex-nan": np.array([1, complex("nan")]),
    "nat": np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "nat-of-a-duration": np.array([1, "NaT"], "m8[D]"),
    "nat-in-a-list": [np.datetime64("2020-01-01"), np.datetime64("NaT")],
    "neither-equal-nor-not": [1, Missing()],
    "masked": np.ma.masked_array([1, 2], [False, True]),
    "masked-column": np.ma.masked_array([[1], [2]], [[False], [True]]),
    "masked-constant": [1, np.ma.masked],
    "part-of-a-tuple": [(1, 1), (1, float("nan"))],
    "nan-in-a-tuple": [(1, 1), (1, (2, float("nan")))],
    "field-of-a-record": np.array([(1, 1.0), (1, np.nan)], [("x", "i8"), ("y", "f8")]),
}


@pytest.mark.parametrize("kind", MISSING)
def test_missing_labels_are_refused(kind):
    with pytest.raises((ValueError, TypeError), match=r"`labels`.*Received: labels\[1"):
        number(MISSING[kind])


def test_masked_arrays_without_masked_entries():
    assert number(np.ma.masked_array([1, 2], [False, False]))[0] == [1, 2]


def test_pandas():
    pandas = pytest.importorskip("pandas")
    for labels in (
        pandas.Series([3, 1, 3]),
        pandas.Series(["b", "a", "b"]),
        pandas.Series(["b", "a", "b"], dtype="category"),
        pandas.Categorical(["b", "a", "b"]),
        pandas.Index([3, 1, 3]),
        pandas.Series([3, 1, 3], dtype="Int64"),
        pandas.Series([True, False, True], dtype="boolean"),
        pandas.Series(pandas.to_datetime(["2020-01-02", "2020-01-01", "2020-01-02"])),
    ):
        classes, (codes,) = number(labels)
        assert len(classes) == 2
        assert codes.tolist() == [1, 0, 1]
    for missing in (
        pandas.Series(["a", None]),
        pandas.Series([1, None]),
        pandas.Series([1, None], dtype="Int64"),
        pandas.Series([1, None], dtype="category"),
        pandas.Series(pandas.to_datetime(["2020-01-01", None])),
        [1, pandas.NA],
        [1, pandas.NaT],
    ):
        with pytest.raises(ValueError, match=r"`labels`.*\[1\]="):
            number(missing)
    # Integers beside a missing one become floats there, and lose their last digits.
    with pytest.raises(ValueError, match=r"`labels`"):
        number(pandas.Series([2**60 + 1, None], dtype="Int64"))


def test_memory_does_not_depend_on_the_longest():
    """A megabyte in one label of 20,000 is a megabyte, not 80 gigabytes."""
    labels = ["x" * 2**20, *map(str, range(20_000))]
    tracemalloc.start()
    try:
        classes, (codes,) = number(labels)
        array = label_array(classes)
        size = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(array) == len(labels)
    assert array[codes[0]] is labels[0]
    assert size < 2**24


class TestArrays:
    def test_integers(self):
        assert label_array([1, np.uint8(2), -(2**63), 2**63 - 1]).dtype == np.int64

    @pytest.mark.parametrize(
        "labels",
        [
            [2**63, 1],
            ["a", "a\0"],
            [True, 2],
            [(1, 2), (3, 4)],
            [(1,)],
            ["1", 1],
            [b"a", b"a\0"],
            [],
        ],
    )
    def test_anything_else_is_kept_as_it_is(self, labels):
        array = label_array(labels)
        assert array.shape == (len(labels),)
        assert array.tolist() == labels
        assert [type(x) for x in array] == [type(x) for x in labels]


def test_written_labels_stay_apart():
    labels = [("a", 1), "('a', 1)", "('a', 1)'", 1, "1", b"1", "b'1'", 2**80]
    written = json.loads(json.dumps(json_labels(labels)))
    assert len(set(written)) == len(labels)
    assert written[1:5] == labels[1:5]
    assert written[-1] == 2**80


@pytest.mark.parametrize(
    "names",
    [
        [1, "1", (1,), "(1,)"],
        [2**70, 2**70 + 1, -1, 2**63],
        ["a", "a\0", "b", "\ud800"],
        [b"a", "b'a'", "a", "b"],
        [2**53 + 1, 2**53, 2**53 + 2, 0],
    ],
    ids=["kinds", "large", "text", "bytes", "beyond-float64"],
)
def test_evaluation_read_back(names, tmp_path):
    y = np.repeat(np.arange(4), 6)
    x = np.random.default_rng(0).normal(size=(24, 4))
    result = evaluate_embeddings(x, [names[code] for code in y])
    assert set(result.classes.tolist()) == set(names)
    path = tmp_path / "result.json"
    result.save(path)
    loaded = Evaluation.load(path)
    assert len(set(loaded.classes.tolist())) == 4
    pairs = zip(result.classes.tolist(), loaded.classes.tolist(), strict=True)
    for before, after in pairs:
        if isinstance(before, int | str):
            assert (type(after), after) == (type(before), before)
        else:
            assert after.startswith(repr(before))
    again = Evaluation.from_dict(json.loads(json.dumps(loaded.to_dict())))
    assert again.classes.tolist() == loaded.classes.tolist()


def test_evaluation_with_a_gallery_of_another_kind():
    y = np.repeat(np.arange(4), 6)
    x = np.random.default_rng(0).normal(size=(24, 4))
    expected = evaluate_embeddings(
        x[::2], y[::2], gallery_embeddings=x[1::2], gallery_labels=y[1::2]
    )
    large = y.astype(np.uint64) + np.uint64(2**63)
    for labels, others in (
        (y.astype(np.uint64), y.astype(np.float32)),
        (y.astype(np.int8), y.tolist()),
        (large, [2**63 + code for code in y.tolist()]),
        (y.astype(str), y.astype(str).tolist()),
    ):
        result = evaluate_embeddings(
            x[::2], labels[::2], gallery_embeddings=x[1::2], gallery_labels=others[1::2]
        )
        assert result.opis == expected.opis
        assert result.recall == expected.recall
    for labels, others in ((y, y.astype(str)), (y.astype(str), y.astype("S"))):
        with pytest.raises(ValueError, match="two classes"):
            evaluate_embeddings(
                x, labels, gallery_embeddings=x.copy(), gallery_labels=others
            )


def test_one_hot_labels():
    x = np.random.default_rng(0).normal(size=(12, 4))
    with pytest.raises(ValueError, match=r"argmax.*SharedLabel.*shape=\(12, 3\)"):
        evaluate_embeddings(x, np.eye(3)[np.arange(12) % 3])


class TestTensors:
    """What becomes of the labels of a batch."""

    @pytest.mark.parametrize(
        "labels",
        [
            [0, 1, 2**31 - 1],
            [0.0, True, -(2**31)],
            np.array([0, 1, 2], np.uint64),
            np.array([0, 1, 2], np.uint16),
            np.array([[0], [1], [2]], np.float64),
            np.array([2.0**24, 2.0**24 + 1, 2.0**24 + 2]),
            np.array([0, 1, 2], dtype=object),
            np.array([0, 1, 2]).astype(ml_dtypes.bfloat16),
            [np.int64(1), np.float32(2), np.array(3)],
        ],
        ids=repr,
    )
    def test_values_are_kept(self, labels):
        tensor = label_tensor("y_true", labels)
        assert keras.backend.is_int_dtype(tensor.dtype)
        expected = [int(x) for x in np.ravel(labels)]
        assert keras.ops.convert_to_numpy(tensor).ravel().tolist() == expected

    def test_tensors_in_a_list(self):
        tensors = [keras.ops.convert_to_tensor(x) for x in (5, 7, 5)]
        tensor = label_tensor("y_true", tensors)
        assert keras.ops.convert_to_numpy(tensor).tolist() == [5, 7, 5]

    @pytest.mark.parametrize(
        "labels",
        [
            np.array([0, 2**32]),
            [0, 2**32],
            np.array([0, 2**31]),
            [0.0, 2.0**32],
            np.array([0, -(2**31) - 1]),
            np.array([[0], [2**32]], np.uint64),
        ],
        ids=repr,
    )
    def test_beyond_32_bits(self, labels):
        if keras.backend.backend() == "jax":
            with pytest.raises(
                ValueError, match=r"`y_true` must fit int32.*unique.*\[1"
            ):
                label_tensor("y_true", labels)
        else:
            tensor = label_tensor("y_true", labels)
            expected = [int(x) for x in np.ravel(labels)]
            assert keras.ops.convert_to_numpy(tensor).ravel().tolist() == expected

    @pytest.mark.parametrize(
        "labels", [[0, 2**63], [2**63, -1], np.array([0, 2**63], np.uint64), [-(2**70)]]
    )
    def test_beyond_64_bits(self, labels):
        with pytest.raises(
            ValueError, match=r"`y_true` must fit int.*unique.*Received"
        ):
            label_tensor("y_true", labels)

    @pytest.mark.parametrize(
        "labels",
        [
            ["a", "b"],
            np.array(["a", "b"]),
            np.array([b"a", b"b"]),
            np.array(["a", "b"], dtype=object),
            "ab",
            [b"a"],
            [1, "b"],
        ],
        ids=repr,
    )
    def test_text(self, labels):
        with pytest.raises(
            TypeError,
            match=r"`y_true` must be integers.*np.unique.*Received",
        ):
            label_tensor("y_true", labels)

    @pytest.mark.parametrize(
        "labels",
        [[1 + 1j], np.array([1j]), [{}], [[1], [1, 2]], np.array(["2020"], "M8[Y]")],
        ids=repr,
    )
    def test_no_numbers(self, labels):
        with pytest.raises(TypeError, match=r"`y_true` must be integers.*Received"):
            label_tensor("y_true", labels)

    @pytest.mark.parametrize(
        "labels",
        [None, [0, None], np.ma.masked_array([0, 1], [0, 1]), [0, np.ma.masked]],
        ids=repr,
    )
    def test_missing(self, labels):
        with pytest.raises(
            (ValueError, TypeError), match=r"`y_true`.*missing.*Received"
        ):
            label_tensor("y_true", labels)

    def test_floats_that_are_no_classes_stay(self):
        for labels in ([0.5, 1], np.array([0.5, 1]), np.array([0.5, 1], object)):
            tensor = label_tensor("y_true", labels, are_classes=False)
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(tensor), [0.5, 1])
