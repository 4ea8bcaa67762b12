"""Labels that are given beside a data set must be those of its rows."""

import keras
import numpy as np
import pytest

from keras_tcm.callbacks import RetrievalEvaluation
from keras_tcm.data import ClassBalancedSampler
from keras_tcm.relevance import SharedLabel

Y = np.random.default_rng(0).permutation(np.repeat(np.arange(12), 8))
X = np.random.default_rng(1).normal(size=(96, 6)).astype("float32")


class Batches(keras.utils.PyDataset):
    """Batches of 16 rows, in the order of `rows`."""

    def __init__(self, rows, labels=None):
        super().__init__()
        self.rows, self.labels = np.asarray(rows), labels

    def __len__(self):
        return 6

    def __getitem__(self, index):
        rows = self.rows[16 * index : 16 * (index + 1)]
        return X[rows] if self.labels is None else (X[rows], self.labels[rows])


class ShuffledAtTheEnd(Batches):
    def on_epoch_end(self):
        self.rows = np.random.default_rng(len(self.rows)).permutation(self.rows)


class ShuffledAtTheBeginning(Batches):
    def on_epoch_begin(self):
        self.rows = np.random.default_rng(0).permutation(self.rows)


class TwoBatches(Batches):
    """Two halves in an order that is drawn: every other pass begins alike."""

    rng = np.random.default_rng(1)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[48 * self.order[index] :][:48]

    def on_epoch_begin(self):
        self.order = self.rng.permutation(2)


class Augmented(Batches):
    rng = np.random.default_rng(0)

    def __getitem__(self, index):
        return super().__getitem__(index) + self.rng.normal(size=(16, 6))


IN_ORDER = np.arange(96)
SHUFFLED = np.random.default_rng(2).permutation(96)


@pytest.mark.parametrize("num_batches", [1, 6])
def test_a_sampler_is_refused(num_batches):
    sampler = ClassBalancedSampler(X, Y, 4, 4, steps_per_epoch=num_batches, seed=0)
    with pytest.raises(ValueError, match=r"`x` must .*order of `y`.*ImageBatches`.*Re"):
        RetrievalEvaluation(sampler, Y)


@pytest.mark.parametrize(
    "kind", [ShuffledAtTheEnd, ShuffledAtTheBeginning, TwoBatches, Augmented]
)
def test_what_changes_between_passes_is_refused(kind):
    with pytest.raises(ValueError, match=r"`x` must .*another first batch at another"):
        RetrievalEvaluation(kind(IN_ORDER), Y)


def test_a_generator_is_refused():
    with pytest.raises(TypeError, match=r"`x` must give its rows at every evaluation"):
        RetrievalEvaluation((X[i : i + 16] for i in range(0, 96, 16)), Y)


@pytest.mark.parametrize("encode", [np.asarray, lambda y: [f"class {k}" for k in y]])
def test_labels_in_the_batches_are_compared(encode):
    """Up to their encoding: the batches have numbers where `y` may have names."""
    with pytest.raises(ValueError, match=r"`y` must .*comes with other labels"):
        RetrievalEvaluation(Batches(SHUFFLED, Y), encode(Y))
    RetrievalEvaluation(Batches(SHUFFLED, Y), encode(Y[SHUFFLED]))
    RetrievalEvaluation(Batches(IN_ORDER, 100 - Y), encode(Y))


@pytest.mark.parametrize(
    "y",
    [keras.ops.convert_to_tensor(Y), Y.tolist(), Y[:, None]],
    ids=["tensor", "list", "column"],
)
def test_any_kind_of_labels(y):
    RetrievalEvaluation(Batches(IN_ORDER, Y), y)


def test_labels_for_a_relevance_are_not_compared():
    tags = np.stack([Y, Y[::-1]], 1)
    RetrievalEvaluation(Batches(IN_ORDER, Y), tags, relevance=SharedLabel())


def test_missing_values_are_the_same_rows(monkeypatch):
    monkeypatch.setitem(globals(), "X", np.where(X > 2, np.nan, X))
    RetrievalEvaluation(Batches(IN_ORDER), Y)


@pytest.mark.parametrize(
    "x", [X, X.tolist(), [X, X], {"a": X}, keras.ops.ones((96, 2))]
)
def test_arrays_have_an_order(x):
    RetrievalEvaluation(x, Y)


def test_tf_data():
    data = pytest.importorskip("tensorflow").data.Dataset
    plain = data.from_tensor_slices((X, Y))
    RetrievalEvaluation(plain.batch(20), Y)
    RetrievalEvaluation(data.from_tensor_slices(X).batch(20), Y)
    with pytest.raises(ValueError, match="another first batch"):
        RetrievalEvaluation(plain.shuffle(96).batch(20), Y)
    fixed = plain.shuffle(96, seed=0, reshuffle_each_iteration=False)
    with pytest.raises(ValueError, match="comes with other labels"):
        RetrievalEvaluation(fixed.batch(20), Y)


def test_data_loader():
    torch = pytest.importorskip("torch")
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    RetrievalEvaluation(torch.utils.data.DataLoader(rows, batch_size=20), Y)
    shuffled = torch.utils.data.DataLoader(rows, batch_size=20, shuffle=True)
    with pytest.raises(ValueError, match="another first batch"):
        RetrievalEvaluation(shuffled, Y)
