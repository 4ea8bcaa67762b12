"""Embeddings in several .npy files, of which only some rows are read at a time."""

import pickle
import tempfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation._inputs import samples
from keras_tcm.evaluation._inputs.samples import FileRows, MappedRows, Shards, normalize

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 12, 150)
X = (RNG.normal(size=(12, 6))[LABELS] + RNG.normal(size=(150, 6))).astype("float32")
# A vector of length 0 is normalised in another way than those beside it.
X[40] = 0.0
ENDS = [1, 60, 61]


def write(folder, array, name="x"):
    paths = []
    for number, rows in enumerate(np.split(array, ENDS)):
        paths.append(folder / f"{name}{number}.npy")
        np.save(paths[-1], rows)
    return paths


def evaluate(x, labels=LABELS, **options):
    return evaluate_embeddings(x, labels, verbose=False, block_size=32, **options)


@pytest.fixture
def paths(tmp_path):
    return write(tmp_path, X)


class TestShards:
    @pytest.mark.parametrize("index", ["all", "some", "unsorted", "repeated", "none"])
    def test_rows_are_those_of_the_whole(self, paths, index):
        index = {
            "all": slice(None),
            "some": slice(50, 70),
            "unsorted": np.random.default_rng(1).permutation(150)[:40],
            "repeated": np.array([149, 0, 60, 60, 1]),
            "none": np.zeros(0, np.int64),
        }[index]
        shards = Shards("x", paths)
        assert (shards.shape, shards.dtype, len(shards)) == ((150, 6), X.dtype, 150)
        assert_array_equal(shards[index], X[index])

    def test_rows_are_read_where_they_are_needed(self, paths):
        """What is sent to another process is where the rows are, not the rows."""
        sent = pickle.dumps(Shards("x", paths))
        assert len(sent) < X.nbytes / 2
        assert_array_equal(pickle.loads(sent)[5:100], X[5:100])

    def test_fortran_order_and_empty_files(self, tmp_path):
        np.save(tmp_path / "a.npy", np.asfortranarray(X[:50]))
        np.save(tmp_path / "b.npy", X[:0])
        np.save(tmp_path / "c.npy", X[50:])
        shards = Shards("x", [tmp_path / f"{name}.npy" for name in "abc"])
        assert_array_equal(shards[:], X)


@pytest.mark.parametrize("kind", [list, tuple], ids=["list", "tuple"])
def test_result_is_that_of_the_array(paths, kind):
    expected = evaluate(X).to_dict()
    assert evaluate(kind(paths)).to_dict() == expected
    assert evaluate(kind(map(str, paths))).to_dict() == expected


def test_labels_and_gallery_in_files(tmp_path, paths):
    labels = write(tmp_path, LABELS, "labels")
    names = write(tmp_path, LABELS.astype("U3"), "names")
    assert evaluate(paths, labels).to_dict() == evaluate(X).to_dict()
    assert (
        evaluate(paths, names).to_dict() == evaluate(X, LABELS.astype("U3")).to_dict()
    )
    expected = evaluate(
        X[:60], LABELS[:60], gallery_embeddings=X, gallery_labels=LABELS
    )
    result = evaluate(
        X[:60], LABELS[:60], gallery_embeddings=paths, gallery_labels=labels
    )
    assert result.to_dict() == expected.to_dict()


def test_files_as_their_own_gallery(paths):
    result = evaluate(paths, gallery_embeddings=paths, gallery_labels=LABELS)
    assert result.to_dict() == evaluate(X).to_dict()


def test_files_are_read_in_parts(paths, monkeypatch):
    """No read asks for all rows: the longest is a chunk or a block."""
    asked = []
    read = Shards.__getitem__

    def reading(self, index):
        rows = read(self, index)
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(Shards, "__getitem__", reading)
    monkeypatch.setattr(samples, "CHUNK_ROWS", 32)
    monkeypatch.setattr("keras_tcm.evaluation._counting.label_pairs._CHUNK_ROWS", 40)
    monkeypatch.setattr("keras_tcm.evaluation._counting.label_pairs._PILOT_ROWS", 40)
    evaluate(paths)
    assert max(asked) <= 40


class TestErrors:
    def test_missing(self, paths):
        paths[2].unlink()
        with pytest.raises(FileNotFoundError, match=r"`embeddings`.*\[2\].*x2\.npy"):
            evaluate(paths)

    @pytest.mark.parametrize("size", [0, 40, 200], ids=["empty", "header", "rows"])
    def test_truncated(self, paths, size):
        paths[1].write_bytes(paths[1].read_bytes()[:size])
        with pytest.raises(ValueError, match=r"`embeddings`.*Received:.*x1\.npy"):
            evaluate(paths)

    def test_truncated_while_it_is_read(self, paths):
        shards = Shards("embeddings", paths)
        paths[3].write_bytes(paths[3].read_bytes()[:-4])
        with pytest.raises(ValueError, match=r"`embeddings`.*x3\.npy"):
            shards[0:100]

    def test_rows_gone_while_it_is_read(self, paths):
        shards = Shards("embeddings", paths)
        np.save(paths[3], X[:7])
        with pytest.raises(ValueError, match=r"x3\.npy.*7 rows instead of 89"):
            shards[0:100]

    @pytest.mark.parametrize(
        ("rows", "received"),
        [
            (X[:5, :3], r"shape \(5, 3\)"),
            (X[:5].astype("float64"), "float64"),
            (X[0], r"shape \(6,\)"),
            (np.float32(1.0), r"shape \(\)"),
        ],
        ids=["width", "dtype", "rank-1", "number"],
    )
    def test_others(self, paths, rows, received):
        np.save(paths[3], rows)
        with pytest.raises(ValueError, match=rf"`embeddings`.*x3\.npy.*{received}"):
            evaluate(paths)

    def test_no_code_is_run(self, paths, tmp_path):
        np.save(paths[0], np.array([[print]]), allow_pickle=True)
        with pytest.raises(ValueError, match=r"`embeddings`.*x0\.npy"):
            evaluate(paths)

    def test_no_npy_file(self, paths):
        with open(paths[0], "wb") as file:
            np.savez(file, X)
        with pytest.raises(ValueError, match=r"`embeddings`.*npz.*x0\.npy"):
            evaluate(paths)
        paths[0].write_text("1 2 3")
        with pytest.raises(ValueError, match=r"`embeddings`.*x0\.npy"):
            evaluate(paths)

    def test_not_finite(self, paths):
        rows = X[61:].copy()
        rows[3, 2] = np.nan
        np.save(paths[3], rows)
        with pytest.raises(ValueError, match=r"`embeddings` must be finite.*index 64"):
            evaluate(paths)

    def test_labels_do_not_match(self, paths, tmp_path):
        labels = write(tmp_path, LABELS, "labels")
        with pytest.raises(ValueError, match=r"`labels`.*150.*Received: 149"):
            evaluate(paths, LABELS[1:])
        with pytest.raises(ValueError, match=r"`labels`.*1, 59, 1, 89"):
            evaluate(paths, labels[::-1])
        with pytest.raises(ValueError, match=r"`labels`.*1, 59, 1, 89"):
            evaluate(paths, labels[:3])
        labels[2].unlink()
        with pytest.raises(FileNotFoundError, match=r"`labels`.*labels2\.npy"):
            evaluate(paths, labels)


class TestMappedRows:
    @pytest.mark.parametrize(
        "view",
        [np.s_[:], np.s_[7:90], np.s_[::3, 1:], np.s_[::-1]],
        ids=["whole", "rows", "steps", "backwards"],
    )
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_another_process_reads_the_file(self, tmp_path, view, order):
        path = tmp_path / "x.npy"
        np.save(path, np.asarray(X, order=order))
        rows = np.load(path, mmap_mode="r")[view]
        sent = pickle.loads(pickle.dumps(MappedRows(rows)))
        assert isinstance(sent, FileRows)
        some = np.array([20, 3, 3])
        assert_array_equal(sent[some], X[view][some])

    def test_what_another_process_cannot_see(self, paths):
        rows = np.load(paths[1], mmap_mode="c")
        with pytest.raises(ValueError, match=r"`client`.*mode 'c'"):
            pickle.dumps(MappedRows(rows))
        with tempfile.TemporaryFile() as file:
            file.write(X.tobytes())
            file.flush()
            rows = np.memmap(file, "float32", "r", shape=X.shape)
            with pytest.raises(ValueError, match=r"`client`.*file None"):
                pickle.dumps(MappedRows(rows))


def test_rows_are_normalised_one_by_one():
    """A row comes out the same whatever rows it is read with."""
    x = np.random.default_rng(2).normal(size=(50, 7)).astype("float32")
    x[[3, 20]] = 0.0
    x[10] *= 1e-30
    x[11] *= np.float32(1e37)
    together = normalize(x)
    alone = np.concatenate([normalize(row[None]) for row in x])
    assert_array_equal(together, alone)
    lengths = np.linalg.norm(together.astype("float64"), axis=1)
    np.testing.assert_allclose(
        lengths, [0 if i in (3, 20) else 1 for i in range(50)], atol=1e-6
    )
