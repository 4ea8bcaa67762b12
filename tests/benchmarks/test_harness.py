"""How the benchmarks measure."""

import os

import harness
import numpy as np
import pytest


def test_median_and_spread():
    measurement = harness.Measurement("x", seconds=(1.0, 9.0, 2.0, 3.0, 4.0))
    assert measurement.median == 3.0
    # The quartiles are 2 and 4.
    assert measurement.spread == pytest.approx(2 / 3)
    assert harness.Measurement("x").median is None
    assert harness.Measurement("x").spread is None


RESULTS = harness.Results(
    "loss",
    "jax",
    True,
    {"cores": "2"},
    {"keras": "3.15.1"},
    (
        harness.Measurement("TCM", {"batch": 64, "d": 8}, (0.004, 0.001, 0.002), 4e6),
        harness.Measurement("TCM", {"batch": 128, "d": 8}, peak_bytes=3 * 2**20),
        harness.Measurement("coverage", {"score": "opis"}, values={"bias": -0.25}),
    ),
)


def test_results_come_back_from_json(tmp_path):
    path = RESULTS.save(tmp_path / "new" / "folder")
    assert path.name == "loss-jax.json"
    assert harness.Results.load(path) == RESULTS


def test_find():
    assert RESULTS.find("TCM").parameters["batch"] == 64
    assert RESULTS.find("TCM", batch=128).peak_bytes == 3 * 2**20
    assert RESULTS.find("TCM", batch=128, d=9) is None
    assert RESULTS.find("TCM", n=1) is None
    assert RESULTS.command.endswith("bench_loss.py --backend jax --quick")


def test_table():
    lines = RESULTS.table().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[2] == ["TCM", "batch=64 d=8", "2.00", "75%", "3", "2", "", ""]
    assert rows[3] == ["TCM", "batch=128 d=8", "", "", "", "", "3", ""]
    assert rows[4][-1] == "bias=-0.25"
    assert len({len(line) for line in lines}) == 1


def test_candidates_take_turns():
    calls = []

    def candidate(name):
        def call(round_number):
            calls.append((name, round_number))
            return len(calls)

        return call

    names = ("a", "b")
    candidates = {name: candidate(name) for name in names}
    times = harness.time_in_turn(candidates, is_quick=False, seconds=0)
    # The first call of each does not count; then the order changes from round to round.
    assert "".join(name for name, _ in calls) == "ab" + "ab" + "ba" + "ab"
    assert [number for _, number in calls] == [0, 0, 0, 0, 1, 1, 2, 2]
    assert times == {"a": (3, 6, 7), "b": (4, 5, 8)}
    assert harness.time_in_turn(candidates, is_quick=True).keys() == set(names)


def _environment(name):
    return os.environ.get(name)


def _set(value):
    harness.kept_by_the_test = value


def _get():
    return harness.kept_by_the_test


def test_worker_has_its_own_environment_and_keeps_its_state(monkeypatch):
    monkeypatch.setenv("OUTER", "1")
    with harness.Worker({"INNER": "2"}) as worker:
        assert worker.call(_environment, "OUTER") == "1"
        assert worker.call(_environment, "INNER") == "2"
        worker.call(_set, 3)
        assert worker.call(_get) == 3
    assert "INNER" not in os.environ


def _allocate(size):
    kept = np.ones(2**23)
    yield
    kept = kept, np.ones(size // 8)


def test_peak_memory_counts_what_comes_after_the_inputs():
    # This process is larger than what is measured.
    ballast = np.ones(2**26)
    size = 2**27
    peak = harness.peak_bytes_over_inputs(_allocate, size)
    assert peak == pytest.approx(size, rel=0.05)
    del ballast


def test_clustered():
    x, labels = harness.clustered(5000, 16, 0)
    counts = np.bincount(labels)
    assert x.shape == (5000, 16)
    assert x.dtype == np.float32
    assert labels.shape == (5000,)
    # The last class is cut off.
    assert counts.min() >= 1
    assert counts.max() <= 12
    assert counts.mean() == pytest.approx(5.3, abs=0.2)
    again = np.empty_like(x)
    np.testing.assert_array_equal(harness.fill_clustered(again, 0), labels)
    np.testing.assert_array_equal(again, x)
    assert not np.array_equal(harness.clustered(5000, 16, 1)[0], x)
