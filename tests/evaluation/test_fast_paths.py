"""Every way through the evaluation of all pairs gives the same result."""

import functools

import numpy as np
import oracles
import pytest
from numpy.testing import assert_array_equal

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation._counting import label_pairs
from keras_tcm.evaluation._counting.label_pairs import PositivePairs
from keras_tcm.evaluation._inputs.pair_space import make_space
from keras_tcm.evaluation._walk import kernels as numpy_kernels
from keras_tcm.evaluation._walk import pair_walk
from keras_tcm.evaluation._walk.kernels import Tile
from keras_tcm.evaluation._walk.pair_walk import walk_pairs
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tallies import NeighborRanks, Tally
from keras_tcm.evaluation.distances import NUM_STEPS, STEPS_PER_UNIT

numba_kernels = pytest.importorskip(
    "keras_tcm.evaluation._walk.kernels_numba", reason="needs the `fast` extra"
)


def clusters(sizes, seed, dim=12):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(sizes), dim))[labels]
    x += rng.uniform(0.5, 1.5, len(sizes))[labels, None] * rng.normal(size=x.shape)
    order = rng.permutation(len(labels))
    return x[order].astype("float32"), labels[order]


# One class is larger than all of the blocks below, and one has a single sample.
SIZES = [70, 1, *np.random.default_rng(0).poisson(5, 30) + 2]
X, Y = clusters(SIZES, seed=1)
GALLERY, GALLERY_LABELS = clusters(SIZES[::-1], seed=1)


@functools.cache
def reference(with_gallery):
    gallery = (GALLERY, GALLERY_LABELS.tolist()) if with_gallery else ()
    return oracles.evaluate(X, Y.tolist(), *gallery)


def evaluate(with_gallery=False, **options):
    if with_gallery:
        options |= {"gallery_embeddings": GALLERY, "gallery_labels": GALLERY_LABELS}
    return evaluate_embeddings(X, Y, verbose=False, **options)


def assert_matches(result, with_gallery=False, tolerance=1e-9):
    expected = reference(with_gallery)
    assert result.opis == pytest.approx(expected.opis, rel=1e-4 + tolerance)
    assert result.epsilon_opis == pytest.approx(
        expected.epsilon_opis, rel=1e-4 + tolerance
    )
    assert result.recall == pytest.approx(expected.recall, abs=1e-9)
    # A negative within float32 of a positive ranks before it.
    assert result.map_at_r == pytest.approx(expected.map_at_r, abs=1e-5)
    assert result.eer == pytest.approx(expected.eer, abs=1e-9)
    for point, other in zip(
        result.operating_points, expected.operating_points, strict=True
    ):
        assert point.far == pytest.approx(other.far, abs=1e-9)
        np.testing.assert_allclose(
            point.per_class_far, other.per_class_far, atol=1e-9 + tolerance
        )


@pytest.fixture(params=["numpy", "numba"])
def kernels(request, monkeypatch):
    """Small sets use the NumPy kernels unless told otherwise."""
    if request.param == "numba":
        monkeypatch.setattr(pair_walk, "_NUMBA_PAIRS", 0)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("with_gallery", [False, True], ids=["itself", "gallery"])
class TestWalks:
    # Uneven last blocks, even ones, one block, and one class larger than a block.
    @pytest.mark.parametrize("block_size", [37, 64, len(Y), 5000])
    def test_blocks(self, with_gallery, block_size):
        assert_matches(evaluate(with_gallery, block_size=block_size), with_gallery)

    def test_positives_in_groups(self, with_gallery, monkeypatch):
        monkeypatch.setattr(label_pairs, "MAX_HELD", 3000)
        assert_matches(evaluate(with_gallery, block_size=100), with_gallery)

    def test_large_classes_in_blocks(self, with_gallery, monkeypatch):
        monkeypatch.setattr(label_pairs, "_LARGE_CLASS_PAIRS", 20)
        monkeypatch.setattr(label_pairs, "_TILE_ROWS", 32)
        assert_matches(evaluate(with_gallery), with_gallery)

    def test_pilot_that_misleads(self, with_gallery, monkeypatch):
        """The counts go farther until they go far enough."""
        monkeypatch.setattr(label_pairs, "_pilot", lambda space: np.arange(1000, 1100))
        assert_matches(evaluate(with_gallery), with_gallery)

    def test_bins_read_by_interpolation(self, with_gallery, monkeypatch):
        """With few pairs a second walk is made, unless the error is allowed."""
        monkeypatch.setattr(label_pairs, "_MAX_ERROR", 1.0)
        walks = []
        monkeypatch.setattr(
            label_pairs,
            "walk_pairs",
            lambda *args, **options: walks.append(1) or walk_pairs(*args, **options),
        )
        assert_matches(evaluate(with_gallery), with_gallery, tolerance=1e-2)
        assert len(walks) == 1

    def test_neighbours_are_ranked_once(self, with_gallery, monkeypatch):
        """Counts that must go farther do not rank anew, nor does a second walk."""
        # A pilot as near as the nearer half of the positives: not far enough.
        pairs = oracles.all_pairs(X, Y.tolist())
        middle = np.median([distance for distance, a, b in pairs if a == b])
        pilot = int(middle * STEPS_PER_UNIT) + np.arange(1000)
        monkeypatch.setattr(label_pairs, "_pilot", lambda space: pilot)
        ranked = []

        def walk(queries, codes, gallery, plan, tally=None, ranks=None):
            ranked.append(ranks is not None)
            walk_pairs(queries, codes, gallery, plan, tally, ranks)

        monkeypatch.setattr(label_pairs, "walk_pairs", walk)
        assert_matches(evaluate(with_gallery), with_gallery)
        assert ranked[0]
        assert len(ranked) > 2
        assert not any(ranked[1:])


@pytest.mark.parametrize("longest", [256, 2048, 3000])
@pytest.mark.parametrize("size", [1, 256, 300, 2049, 60_000])
def test_tiles_are_no_longer_than_asked_and_alike(size, longest):
    side = pair_walk.tile_side(size, longest)
    assert side % 256 == 0
    assert side <= -(-longest // 256) * 256
    number = -(-size // longest)
    # As few as there can be, and none with more than 256 rows to spare.
    assert -(-size // side) <= number
    assert number * (side - 256) < size


class TestInterpolation:
    def test_error_bound_holds(self, monkeypatch):
        """What the bins give differs from the counts by the stated error."""
        queries = make_space([X], [Y]).queries
        values = np.linspace(0.2, 0.9, 20)
        cuts = (values * (NUM_STEPS // 2)).astype(np.int64)
        slots = queries.codes.astype(np.int32)
        sizes = np.array([len(Y) * size for size in SIZES])
        counted = []
        for edges in (cuts, np.linspace(cuts[0], cuts[-1], 500).astype(np.int64)):
            tally = Tally(edges, slots, slots, len(SIZES), np.uint32)
            walk_pairs(queries.vectors, queries.codes, queries, Plan(ks=(1,)), tally)
            counted.append((tally.accepted(cuts), tally.error_at(cuts, sizes)))
        (exact, no_error), (read, error) = counted
        assert no_error == 0
        rms = np.sqrt(np.mean(np.square((read - exact) / sizes[:, None]), axis=0))
        assert 0 < rms.max() < 2 * error
        assert error < 1e-3

    def test_uneven_bins_are_not_read(self):
        tally = Tally(np.array([100, 200]), None, None, 1, np.uint32)
        tally.histogram[0, 150] = 1000
        tally.table[0, 0, 1] = 1000
        assert tally.error_at(np.array([149]), np.array([1000])) == np.inf
        assert tally.error_at(np.array([200]), np.array([1000])) == 0


def tiles(is_triangle, seed):
    """A tile of random similarities between classes of random sizes."""
    rng = np.random.default_rng(seed)
    rows, columns = (90, 90) if is_triangle else (70, 110)
    similarities = rng.uniform(-1, 1, (rows + 3, columns + 5)).astype("float32")
    # Ties with each other and with the positives.
    similarities[::3] = np.round(similarities[::3], 1)
    codes = np.sort(rng.integers(0, 20, columns))
    row_codes = codes if is_triangle else np.sort(rng.integers(0, 25, rows))
    first = np.searchsorted(codes, row_codes)
    last = np.searchsorted(codes, row_codes, side="right")
    return Tile(similarities, 0, rows, 0, columns, is_triangle, first, last), codes


@pytest.mark.parametrize("is_triangle", [False, True])
@pytest.mark.parametrize("seed", range(3))
class TestKernelsAgree:
    def test_count(self, is_triangle, seed):
        tile, codes = tiles(is_triangle, seed)
        edges = np.unique(np.random.default_rng(seed).integers(0, NUM_STEPS, 40))
        results = []
        for kernels in (numpy_kernels, numba_kernels):
            row_slots = np.arange(tile.num_rows, dtype=np.int32) % 7
            tally = Tally(edges, row_slots, codes.astype(np.int32), 25, np.uint32)
            kernels.count(tile, tally)
            results.append((tally.histogram, tally.table[:, :-1]))
        assert results[0][0].sum() > 1000
        for ours, other in zip(*results, strict=True):
            assert_array_equal(ours, other)

    def test_rank(self, is_triangle, seed):
        tile, _ = tiles(is_triangle, seed)
        rng = np.random.default_rng(seed)
        results = []
        sizes = rng.integers(0, 6, max(tile.num_rows, tile.num_columns))
        labels = np.repeat(np.arange(len(sizes)), sizes + 1)
        x = rng.normal(size=(len(labels), 3)).astype("float32")
        (lists,) = PositivePairs(make_space([x], [labels])).lists()
        for kernels in (numpy_kernels, numba_kernels):
            ranks = NeighborRanks(lists, 4)
            kernels.rank(tile, ranks, ranks if is_triangle else None)
            results.append(np.minimum(ranks.ranks(), 1000))
        # Kernels may meet pairs in another order: ranks that matter are the same.
        limit = np.repeat(np.maximum(np.diff(lists.offsets), 4), np.diff(lists.offsets))
        ours, other = (np.where(ranks <= limit, ranks, 1000) for ranks in results)
        assert (ours < 1000).any()
        assert_array_equal(ours, other)
