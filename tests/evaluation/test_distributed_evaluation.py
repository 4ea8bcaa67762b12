"""An evaluation that other threads and processes count is that of one process."""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import pickle
import signal

import keras
import numpy as np
import pytest

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation._counting import label_pairs
from keras_tcm.evaluation._walk import pair_walk, plan
from keras_tcm.relevance import SharedLabel

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 80, 500)
X = RNG.normal(size=(80, 12))[LABELS] + RNG.normal(size=(500, 12))
X = X.astype("float32")
X[7] = 0.0
QUERIES = {"gallery_embeddings": X[::2] + 0.1, "gallery_labels": LABELS[::2]}
OPTIONS = {
    "itself": {},
    "gallery": QUERIES,
    "sampled": {"max_pairs": 40_000},
    "sampled-gallery": {"max_pairs": 60_000, **QUERIES},
    "frr-range": {"frr_range": (0.2, 0.5)},
    "euclidean": {"distance": "euclidean", "calibration_range": (0.8, 1.2)},
}


def evaluate(x=X, labels=LABELS, block_size=128, **options):
    return evaluate_embeddings(
        x, labels, block_size=block_size, verbose=False, **options
    )


@functools.cache
def alone(name="itself"):
    return evaluate(**OPTIONS[name])


def assert_same(result, expected):
    """Every field is equal, to the last bit."""
    assert result.to_dict() == expected.to_dict()
    np.testing.assert_array_equal(result.utility, expected.utility)
    for point, other in zip(
        result.operating_points, expected.operating_points, strict=True
    ):
        np.testing.assert_array_equal(point.per_class_far, other.per_class_far)
        np.testing.assert_array_equal(point.per_class_frr, other.per_class_frr)


class PickledParts(concurrent.futures.Executor):
    """Counts where it is, what came through pickle, and returns it likewise."""

    def __init__(self, times=1):
        self.times = times
        self.sizes = []

    def submit(self, function, part):
        sent = pickle.dumps(part)
        part = pickle.loads(sent)
        for _ in range(self.times):
            result = pickle.dumps(function(part))
        self.sizes.append((len(sent), len(result)))
        future = concurrent.futures.Future()
        future.set_result(pickle.loads(result))
        return future


class TestParts:
    @pytest.mark.parametrize(
        ("name", "kernels"),
        [
            ("itself", "numpy"),
            ("itself", "numba"),
            ("gallery", "numpy"),
            ("sampled", "numba"),
            ("sampled-gallery", "numpy"),
            ("frr-range", "numba"),
            ("euclidean", "numpy"),
        ],
    )
    def test_result(self, name, kernels, monkeypatch):
        if kernels == "numba":
            pytest.importorskip("numba", reason="needs the `fast` extra")
            monkeypatch.setattr(pair_walk, "_NUMBA_PAIRS", 0)
        client = PickledParts()
        assert_same(evaluate(client=client, **OPTIONS[name]), alone(name))
        assert len(client.sizes) > 4

    def test_a_part_can_be_counted_again(self):
        assert_same(evaluate(client=PickledParts(times=2)), alone())

    @pytest.mark.parametrize("block_size", [37, 499])
    def test_uneven_blocks(self, block_size):
        with concurrent.futures.ThreadPoolExecutor(2) as client:
            result = evaluate(block_size=block_size, client=client)
        assert_same(result, evaluate(block_size=block_size))

    def test_positives_in_groups(self, monkeypatch):
        """The neighbours of some queries at a time are ranked."""
        monkeypatch.setattr(label_pairs, "MAX_HELD", 700)
        with concurrent.futures.ThreadPoolExecutor(2) as client:
            assert_same(evaluate(client=client), alone())

    def test_counts_are_those_of_any_split(self, monkeypatch):
        num_parts = []
        for number in (2, 5):
            monkeypatch.setattr(pair_walk, "_MIN_PARTS", number)
            client = PickledParts()
            assert_same(evaluate(client=client), alone())
            num_parts.append(len(client.sizes))
        assert num_parts[0] < num_parts[1]

    def test_progress(self, capsys):
        client = PickledParts()
        evaluate_embeddings(X, LABELS, block_size=128, client=client, verbose=True)
        assert "/10" in capsys.readouterr().out

    def test_parts_hold_no_more_than_their_rows(self, tmp_path):
        """In memory: the rows of a part. In a file: where they are."""
        path = tmp_path / "x.npy"
        wide = np.random.default_rng(1).normal(size=(500, 2000)).astype("float32")
        np.save(path, wide)
        sent = {}
        for name, x in {
            "array": wide,
            "memmap": np.load(path, mmap_mode="r"),
            "files": [path],
        }.items():
            client = PickledParts()
            evaluate(x, client=client)
            sent[name] = max(size for size, _ in client.sizes)
        most = 2 * 128 * 2000 * 4
        assert most < sent["array"] < 1.05 * most
        # Besides the rows: bins, and the positives of some queries.
        assert max(sent["memmap"], sent["files"]) < 0.05 * most

    def test_failure_is_raised(self, tmp_path):
        path = tmp_path / "x.npy"
        np.save(path, X)

        class Failing(PickledParts):
            def submit(self, function, part):
                path.write_bytes(path.read_bytes()[:-4])
                return super().submit(function, part)

        with pytest.raises(ValueError, match=r"`embeddings`.*x\.npy"):
            evaluate([path], client=Failing())


class Pool(concurrent.futures.Executor):
    """Does nothing by itself; so many workers take what has been submitted first."""

    def __init__(self, num_workers):
        self.num_workers = num_workers
        self.futures = []
        self.largest = 0

    def submit(self, function, part):
        future = concurrent.futures.Future()
        self.futures.append((future, function, part))
        self.work()
        self.largest = max(self.largest, len(self.futures))
        return future

    def work(self):
        for future, _, _ in self.futures[: self.num_workers]:
            if not future.running():
                assert future.set_running_or_notify_cancel()

    def finish_one(self):
        future, function, part = self.futures.pop(0)
        self.work()
        future.set_result(function(part))


class TestPartsUnderWay:
    """So many as the pool has use for, whatever the number of CPUs of this host."""

    @pytest.fixture(autouse=True)
    def _another_host(self, monkeypatch):
        monkeypatch.setattr(os, "cpu_count", lambda: 3)

    def run(self, pool, monkeypatch, num_parts=1000):
        # In the place of waiting: the pool goes on by one part.
        wait = concurrent.futures.wait
        monkeypatch.setattr(
            concurrent.futures,
            "wait",
            lambda *args, **options: pool.finish_one() or wait(*args, **options),
        )
        parts = [functools.partial(int, number) for number in range(num_parts)]
        found = list(plan.ClientExecutor(pool).run(iter(parts)))
        assert sorted(found) == list(range(num_parts))
        return pool.largest

    @pytest.mark.parametrize(("num_workers", "most"), [(1, 8), (4, 8), (50, 100)])
    def test_two_for_each_worker(self, num_workers, most, monkeypatch):
        assert self.run(Pool(num_workers), monkeypatch) == most

    def test_a_pool_that_calls_all_running(self, monkeypatch):
        assert self.run(Pool(10**9), monkeypatch) == 256


class TestErrors:
    @pytest.mark.parametrize("client", [3, "tcp://127.0.0.1:8786"])
    def test_type(self, client):
        with pytest.raises(TypeError, match=r"`client`.*Received: client="):
            evaluate(client=client)

    def test_asynchronous(self):
        client = PickledParts()
        client.asynchronous = True
        with pytest.raises(ValueError, match=r"`client`.*Received: client="):
            evaluate(client=client)

    def test_relevance(self):
        labels = np.eye(5, dtype=int)[LABELS % 5]
        with pytest.raises(ValueError, match=r"`client`.*SharedLabel"):
            evaluate(X, labels, relevance=SharedLabel(), client=PickledParts())

    def test_other_backend(self):
        class Other(PickledParts):
            def submit(self, function, part):
                other = dataclasses.replace(part, backend="another")
                return super().submit(function, other)

        with pytest.raises(RuntimeError, match=r"`client`.*'another'.*KERAS_BACKEND"):
            evaluate(client=Other())


# From here on, real processes: the parts and their sums are those tested above on every
# backend, so that one is enough.
@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="needs `distributed`")
    if keras.backend.backend() != "jax":
        pytest.skip("workers take long to start, and JAX ones least")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            env={"KERAS_BACKEND": keras.backend.backend()},
        ) as local,
        distributed.Client(local, timeout=60) as client,
    ):
        yield client


class Limited(concurrent.futures.Executor):
    """Gives up rather than wait forever for a worker."""

    asynchronous = False

    def __init__(self, client, on_submit=lambda number: None):
        self.client = client
        self.on_submit = on_submit
        self.num_submitted = 0

    def nthreads(self):
        return self.client.nthreads()

    def get_executor(self, **options):
        self.executor = self.client.get_executor(**options)
        return self

    def submit(self, function, part):
        self.on_submit(self.num_submitted)
        self.num_submitted += 1
        return self.executor.submit(function, part)


def pids(client):
    return set(client.run(os.getpid).values())


@pytest.mark.slow
class TestDask:
    def test_result(self, cluster):
        assert_same(evaluate(client=cluster), alone())

    def test_a_worker_is_killed(self, cluster, tmp_path):
        """What it was counting is counted anew."""
        paths = []
        for number, rows in enumerate(np.array_split(X, 4)):
            paths.append(tmp_path / f"{number}.npy")
            np.save(paths[-1], rows)
        before = pids(cluster)

        def kill(number):
            if number == 10:
                os.kill(min(before), signal.SIGKILL)

        client = Limited(cluster, kill)
        assert_same(
            evaluate(paths, block_size=64, client=client), evaluate(block_size=64)
        )
        # Eight at a time: some parts had been counted, others were under way, and
        # others to come.
        assert client.num_submitted >= 36
        cluster.wait_for_workers(2, timeout=120)
        assert min(before) not in pids(cluster)

    def test_memory_of_a_worker(self, cluster, tmp_path):
        """It grows by what a part holds, which the size of the data does not enter."""
        if not pathlib.Path("/proc/self/clear_refs").exists():
            pytest.skip("peak memory is reset and read in /proc, which Linux has")

        def reset():
            pathlib.Path("/proc/self/clear_refs").write_text("5")
            return peak()

        def peak():
            status = pathlib.Path("/proc/self/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) * 1024

        side, dim, num_files = 128, 2048, 24
        rng = np.random.default_rng(0)
        paths, labels = [], rng.integers(0, 50, (num_files, 1024))
        means = rng.standard_normal((50, dim), "float32")
        noise = rng.standard_normal((1024, dim), "float32")
        for number, some in enumerate(labels):
            rows = means[some] + np.roll(noise, number, axis=1)
            paths.append(tmp_path / f"{number}.npy")
            np.save(paths[-1], rows)
        options = {
            "gallery_embeddings": paths,
            "gallery_labels": labels.ravel(),
            "block_size": side,
            "client": cluster,
        }
        evaluate(rows[:100], labels[-1, :100], **options)
        before = cluster.run(reset)
        evaluate(rows[:100], labels[-1, :100], **options)
        after = cluster.run(peak)
        grown = max(after[worker] - before[worker] for worker in after)
        # Blocks of two sides of a part, and some tens of MiB for counts and for what is
        # under way; all of the data would be 192 MiB.
        data = num_files * 1024 * dim * 4
        assert grown < 0.4 * data
