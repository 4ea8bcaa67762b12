"""The program for GPUs does all of it on a CPU too, and stops at what is wrong."""

import dataclasses
import json
import pathlib

import accelerator
import numpy as np
import pytest
from processes import finish, start

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def run():
    return accelerator.Run(is_small=True, deadline=float("inf"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_small_trial(backend, tmp_path):
    path = tmp_path / "results.json"
    program = ROOT / "benchmarks" / "accelerator.py"
    output, _ = finish(start(program, "--out", path, KERAS_BACKEND=backend))
    assert "none: a small trial on the CPU" in output
    found = json.loads(path.read_text())
    assert {row["section"] for row in found["rows"]} == set(accelerator.SECTIONS)
    timed = [row for row in found["rows"] if row["milliseconds"] is not None]
    assert all(row["milliseconds"] > 0 for row in timed)
    # Each was compared with the CPU before it was timed.
    for section in "evaluation", "loss":
        first = next(row for row in found["rows"] if row["section"] == section)
        assert first["what"].startswith("check")
        assert first["milliseconds"] is None
    assert "no time left" not in output


def test_no_time_left(run):
    run.deadline = 0.0
    rows = list(run.compared("loss", "B = 2", {"TCM": lambda: 1 / 0}))
    assert [row.note for row in rows] == ["no time left"]


def test_ratios(run, monkeypatch):
    monkeypatch.setattr(run, "time", lambda function: (function(), 3.0))
    rows = list(run.compared("loss", "B", {"a": lambda: 0.5, "b": lambda: 1.5}))
    assert [row.milliseconds for row in rows] == [500, 1500]
    assert [(row.ratio, row.against) for row in rows] == [(None, ""), (3.0, "a")]
    assert rows[1].cells == ["loss", "b", "B", "1500", "3.00x a", "3", ""]


@pytest.mark.parametrize("changed", ["device", "host"])
def test_wrong_counts_are_found(changed, monkeypatch):
    evaluate = accelerator.evaluate_embeddings

    def other(x, y, device, **options):
        result = evaluate(x, y, device=device, **options)
        if device == ("backend" if changed == "device" else "host"):
            return dataclasses.replace(result, eer=result.eer + 1e-9)
        return result

    monkeypatch.setattr(accelerator, "evaluate_embeddings", other)
    with pytest.raises(accelerator.WrongResultError, match="other counts"):
        list(accelerator.check_evaluation(600))


def test_all_pairs_are_multiplied_once(monkeypatch):
    monkeypatch.setattr(accelerator, "SIDE", 4)
    x = np.arange(10, dtype="float32")[:, None]
    # Of tiles (0, 0), (0, 4), (0, 8), (4, 4), (4, 8), (8, 8).
    products = []
    monkeypatch.setattr(
        accelerator.ops,
        "matmul",
        lambda a, b: products.append((float(a[0, 0]), float(b[0, 0]))) or a,
    )
    accelerator.multiply_all(x)
    assert products == [(0, 0), (0, 4), (0, 8), (4, 4), (4, 8), (8, 8)]


def test_rounding_to_fewer_bits():
    values = np.array([1.0, 1 + 2**-8, 1 + 2**-7, 1 + 3 * 2**-8, -0.1, 0], "float32")
    # 1 + 2^-8 lies between 1 and 1 + 2^-7, of which 1 is even; 1 + 3 * 2^-8 goes up.
    expected = [1.0, 1.0, 1 + 2**-7, 1 + 2**-6, -0.10009765625, 0]
    np.testing.assert_array_equal(accelerator.rounded(values, 7), expected)
