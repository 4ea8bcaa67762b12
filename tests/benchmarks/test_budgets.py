"""The document of the benchmarks, from made-up results."""

import sys

import budgets
import harness
import pytest

GFLOPS = 200e9


def results(topic, backend, measurements):
    rate = harness.Measurement(
        "matrix product", {"when": "before"}, (1.0, 1.0, 9.0), flop=GFLOPS
    )
    machine = {
        "processor": "A processor",
        "cores": "2",
        "memory": "23 GiB",
        "system": "Linux",
        "python": "3.11",
    }
    return harness.Results(
        topic, backend, False, machine, {"keras": "3.15.1"}, (rate, *measurements)
    )


def made_up(backend="jax", slowness=1.0):
    """Results of all topics; figures that the tests look at are round."""
    one = harness.Measurement
    loss, evaluation = [], []
    for batch in (2**power for power in range(8, 15)):
        product = 2.0 * batch**2 * 512
        for what, number, factor in (
            ("TCM", 2, 2.0 * slowness),
            ("two products", 2, 2.1),
            ("three products", 3, 4.0),
        ):
            seconds = factor * product / GFLOPS
            loss.append(one(what, {"batch": batch}, (seconds,), number * product))
    tcm = slowness * 4.0 * 1024**2 * 512 / GFLOPS
    loss.append(one("pytorch-metric-learning", {"batch": 1024}, (1500 * tcm,)))
    for name in "SupervisedContrastive", "SmoothAP":
        loss.append(one(name, {"batch": 1024}, (1.0,)))
        loss.append(one(f"{name} + TCM", {"batch": 1024}, (1.1,)))
    for batch in 1024, 4096, 16384:
        peak = int(2**27 * slowness * batch / 16384)
        loss.append(one("TCM memory", {"batch": batch}, peak_bytes=peak))
    for dimension in 128, 512:
        for n in 5000, 10000, 20000, 40000, 60000:
            flop = 1.0 * n**2 * dimension
            for what, factor in (
                ("evaluation", 1.5 * slowness),
                ("choose_threshold", 1.6 * slowness),
                ("evaluation without Numba", 4.0),
                ("products of each pair once", 1.1),
                ("faiss", 3.0),
            ):
                seconds = 0.05 + factor * flop / GFLOPS
                parameters = {"n": n, "d": dimension}
                evaluation.append(one(what, parameters, (seconds,), flop))
    for n in 5000, 20000, 60000:
        peak = int(slowness * (2**28 + 2**12 * n))
        evaluation.append(one("evaluation memory", {"n": n, "d": 512}, peak_bytes=peak))
    metric = [
        one("step", {"memory": 8192}, (0.2,)),
        one("step with metric", {"memory": 8192}, (0.205,)),
        one("result of an epoch", {"memory": 8192}, (0.4,), 2e8),
    ]
    sampled = [
        one(
            "sampled evaluation",
            {"n": 10**6, "d": 512, "max_pairs": 10**9},
            (30.0,),
            values={"opis": 0.02, "opis_error": 0.0005},
        ),
        one(
            "coverage",
            {"score": "opis", "n": 60000},
            (1.0,),
            values={
                "coverage": 0.94,
                "bias": -0.02,
                "stated_over_spread": 1.01,
                "relative_error": 0.03,
            },
        ),
        one(
            "coverage",
            {"score": "eer", "n": 60000},
            (1.0,),
            values={"coverage": 1.0, "relative_error": 0.01},
        ),
    ]
    autodiff = [
        one(
            "ratios",
            {"batch": batch},
            values={
                "TCM / plain": ratio,
                "both / plain": ratio + 0.05,
                "both / MultiSimilarity": ratio + 0.5,
                "AutoTCM / MultiSimilarity": ratio + 1.0,
            },
        )
        for batch, ratio in ((128, 0.55), (1024, 0.6), (4096, 0.5))
    ]
    step = [
        one("step", {}, (1.0,)),
        one("step + TCM", {}, (1.01,)),
        one("step with AutoTCM", {}, (1.03,)),
    ]
    matcher = [
        one("match", {"n": 100000}, (0.55,)),
        one("range_search", {"n": 100000}, (0.5,)),
    ]
    imports = [one("import keras_tcm after keras", {}, (0.05,))]
    topics = {
        "loss": loss,
        "autodiff": autodiff,
        "evaluation": evaluation,
        "metric": metric,
        "sampled": sampled,
        "training_step": step,
        "matcher": matcher,
        "import": imports,
    }
    return {topic: results(topic, backend, found) for topic, found in topics.items()}


def cells(table):
    """Rows of a Markdown table by their first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    ]
    return {row[0]: row[1:] for row in rows}


def test_budget_table():
    runs = {
        "jax": budgets.Run(made_up("jax")),
        "torch": budgets.Run(made_up("torch", slowness=2.2)),
    }
    rows = cells(budgets.budget_table(runs))
    assert rows["what"] == ["against", "bar", "goal", "JAX", "PyTorch"]
    # Higher is better here, and only here.
    assert rows["TCM, batch 1,024"][-2:] == ["1500x faster (bar)"] * 2
    # The worst of the batches.
    name = "TCM, batch 128 to 4,096"
    assert rows[name][1:4] == ["0.90x", "0.67x", "0.60x (goal)"]
    assert rows[f"MultiSimilarity + {name}"][-1] == "0.65x (goal)"
    assert rows["the same"][0] == "MultiSimilarity"
    assert rows["the same"][-1] == "1.10x (bar)"
    name = "TCM, batch 16,384: peak memory"
    assert rows[name][-2:] == ["0.12 GiB (goal)", "0.27 GiB (bar)"]
    name = "AutoTCM of MultiSimilarity, batch 128 to 4,096"
    assert rows[name][-1] == "1.60x (misses)"
    assert rows["ResNet-50 training step with TCM"][-1] == "1.01x (bar)"
    assert rows["ResNet-50 training step with AutoTCM"][-1] == "1.03x (misses)"
    assert rows["SmoothAP + TCM, batch 1,024"][-1] == "1.10x (bar)"
    # (0.05 + 1.536) / (0.05 + 3.072)
    name = "`evaluate_embeddings`, 20,000 samples"
    assert rows[name][-2] == "0.51x (goal)"
    assert rows["the same without Numba"][-2] == "1.33x (misses)"
    # (0.05 + 1.638) / (0.05 + 1.536)
    name = "`choose_threshold`, 20,000 samples, FAR 0.1%"
    assert rows[name][-2] == "1.06x (bar)"
    name = "`Matcher.match`, 1,000 queries in 100,000"
    assert rows[name][-1] == "1.10x (bar)"
    name = "`OPIS` in a training step, 8,192 samples"
    assert rows[name][-1] == "2.50% more (bar)"
    assert rows["`import keras_tcm`"][1:] == [
        "0.10 s more",
        "0.02 s more",
        "0.05 s more (bar)",
        "0.05 s more (bar)",
    ]


def test_autodiff_table():
    table = budgets.autodiff_table({"jax": budgets.Run(made_up())})
    first, *others = table.splitlines()[2:]
    row = [cell.strip() for cell in first.strip("|").split("|")]
    assert row == ["JAX", "128", "0.55x", "0.60x", "1.05x", "1.55x"]
    assert len(others) == 2


def test_floor_table():
    table = budgets.floor_table({"jax": budgets.Run(made_up())})
    row = cells(table)["TCM, batch 4,096"]
    # 4 x 4096^2 x 512 operations; made to take twice the seconds of one product each.
    assert row == ["JAX", "34.4", "200", "172 ms", "172 ms", "0%", "1.00x"]


def test_what_is_missing_has_no_figure():
    run = budgets.Run({"loss": made_up()["loss"]})
    rows = cells(budgets.budget_table({"jax": run}))
    name = "TCM, batch 16,384: peak memory"
    assert rows[name][-1] == "0.12 GiB (goal)"
    assert rows["TCM, batch 128 to 4,096"][-1] == "-"
    assert rows["`import keras_tcm`"][-1] == "-"
    assert "20,000" not in budgets.floor_table({"jax": run})


def test_document(tmp_path, monkeypatch):
    from PIL import Image

    folder = tmp_path / "results"
    for backend, slowness in ("tensorflow", 1.2), ("jax", 1.0), ("torch", 2.2):
        for found in made_up(backend, slowness).values():
            found.save(folder)
    docs = tmp_path / "benchmarks.md"
    docs.write_text(f"before\n{budgets.BEGIN}\nprevious\n{budgets.END}\nafter\n")
    arguments = ["budgets.py", "--results", str(folder), "--docs", str(docs)]
    monkeypatch.setattr(sys, "argv", arguments)
    budgets.main()
    text = docs.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "previous" not in text
    assert "A processor, 2 cores, 23 GiB" in text
    assert "keras 3.15.1" in text
    assert "smoke runs" not in text
    for name in "loss_time", "evaluation_time", "memory":
        assert f"(images/benchmarks_{name}.png)" in text
        with Image.open(tmp_path / "images" / f"benchmarks_{name}.png") as image:
            assert len(image.convert("RGB").getcolors(2**24)) > 50
    budgets.main()
    assert docs.read_text() == text


def test_markers_are_needed():
    with pytest.raises(ValueError, match="`text` must have the markers"):
        budgets.replace_section("text", "new")


def test_markers_of_the_document():
    text = (budgets.HERE.parent / "docs" / "benchmarks.md").read_text()
    assert "new" in budgets.replace_section(text, "new")
