import json
import os
import signal

import numpy as np
import pytest
import study_runs
from processes import end, start, wait_until

import keras_tcm
from keras_tcm.losses import MultiSimilarity
from keras_tcm.study import runner
from keras_tcm.study.grid import (
    BASE_LOSSES,
    PRESETS,
    AutoTCMSetting,
    Cell,
    Run,
    TCMSetting,
)
from keras_tcm.study.runner import read_done
from keras_tcm.study.training import Recipe

CELL = Cell("digits", Recipe(embedding_dim=8), "multi_similarity", 8, 8)


# ----- the grid


@pytest.mark.parametrize("name", PRESETS)
def test_names_of_runs_are_unique(name):
    preset = PRESETS[name]
    tcm = TCMSetting(0.8, 0.4, 0.3)
    runs = [
        Run(part, cell, setting, seed)
        for part, cells in (
            ("tuning", preset.tuning_cells()),
            ("comparison", preset.cells()),
            ("sweep", preset.sweep_cells()),
        )
        for cell in cells
        for setting in (None, tcm, AutoTCMSetting())
        for seed in preset.seeds
    ]
    assert len({run.name for run in runs}) == len(runs)


@pytest.mark.parametrize("name", ["embedded", "paper"])
def test_sixteen_comparisons(name):
    preset = PRESETS[name]
    assert len(list(preset.cells())) == 16
    assert len(preset.seeds) == 5
    assert len(preset.sweep_losses) == 7


def test_strength_is_that_of_the_loss():
    loss = AutoTCMSetting().add_to(MultiSimilarity())
    assert loss.get_config() == keras_tcm.AutoTCM(MultiSimilarity()).get_config()


@pytest.mark.parametrize("setting", [TCMSetting(0.8, 0.4, 0.3), AutoTCMSetting()])
@pytest.mark.parametrize("name", BASE_LOSSES)
def test_tcm_beside_each_loss_is_a_number(name, setting):
    x = np.random.default_rng(0).normal(size=(12, 6))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")
    y = np.repeat(np.arange(4), 3)
    base = BASE_LOSSES[name]()
    both = float(setting.add_to(base)(y, x))
    assert np.isfinite(both)
    assert both > float(base(y, x))


# ----- the records


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": {"steps": 1}}'])
def test_foreign_files_are_named(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"run\.json"):
        read_done(path, Run("comparison", CELL, None, 0))


def test_run_of_another_configuration(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(study_runs.run()))
    with pytest.raises(ValueError, match=r"run\.json must hold a run of this study"):
        read_done(path, Run("comparison", CELL, None, 0))
    assert read_done(tmp_path / "none.json", Run("comparison", CELL, None, 0)) is None


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="`preset` must be one of"):
        runner.run_study(tmp_path, "blog")
    with pytest.raises(ValueError, match="`workers` must be"):
        runner.run_study(tmp_path, "smoke", workers=0)
    with pytest.raises(ValueError, match="`seeds` must be"):
        runner.run_study(tmp_path, "smoke", seeds=[-1])


def test_run_on_image_files(tmp_path, monkeypatch):
    """The path of the large benchmarks: train on files, embed them in order."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    splits = []
    for classes in (range(4), range(4, 8)):
        labels = np.repeat(classes, 12)
        paths = [tmp_path / f"{label}_{i}.png" for i, label in enumerate(labels)]
        for path, label in zip(paths, labels, strict=True):
            pixels = rng.integers(0, 60, (12, 14, 3)) + 20 * label
            image.fromarray(pixels.astype("uint8")).save(path)
        splits.append((np.array([str(path) for path in paths]), labels))
    monkeypatch.setattr(runner.datasets, "load", lambda name, data_dir: tuple(splits))
    runner._data.cache_clear()
    recipe = Recipe(embedding_dim=4, image_size=8, flip=True, freeze_batch_norm=True)
    cell = Cell("birds", recipe, "smooth_ap", 8, 8)
    path = tmp_path / "run.json"
    try:
        for part, classes in (("comparison", [4, 5, 6, 7]), ("tuning", [2, 3])):
            run = Run(part, cell, TCMSetting(0.8, 0.4, 0.3), 0)
            runner.do_run(run, path, None)
            evaluation = read_done(path, run).evaluation()
            assert evaluation.classes.tolist() == classes
            assert evaluation.class_counts.tolist() == [12] * len(classes)
    finally:
        runner._data.cache_clear()


SCRIPT = """
import os, sys
from keras_tcm.study.runner import run_study

# Threads that wait for each other take long where other tests run.
os.cpu_count = lambda: 1
if __name__ == "__main__":
    run_study(sys.argv[1], "smoke", workers=1)
"""


@pytest.mark.slow
def test_killed_and_resumed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    folder, script = tmp_path / "out", tmp_path / "study.py"
    script.write_text(SCRIPT)
    process = start(script, folder)
    wait_until(lambda: len(list(folder.glob("runs/*.json"))) >= 2, process)
    # Nobody is left to write.
    end(process, os.kill, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*.json")}
    assert 2 <= len(before) < 14
    # Whatever was cut short has left no file that looks finished.
    for path in before:
        assert json.loads(path.read_text())["format"] == 1

    runner.run_study(folder, "smoke", workers=1)
    output = capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*")}
    # 2 for the margins, 2 for the weight; in three arms, 2 seeds of the comparison and
    # 2 batch sizes of the sweep.
    assert len(after) == 16
    assert all(path.suffix == ".json" for path in after)
    assert before.items() <= after.items()
    assert "min left" in output

    # The same seed gives the same numbers, and only what is missing is done.
    lost = (
        folder
        / "runs"
        / "comparison-digits-resnet_small-multi_similarity-b8-none-seed1.json"
    )
    first = json.loads(lost.read_text())
    lost.unlink()
    runner.run_study(folder, "smoke", workers=1)
    assert capsys.readouterr().out.count("min left") == 1
    second = json.loads(lost.read_text())
    for key in ("part", "config", "versions", "backend", "history", "evaluation"):
        assert first[key] == second[key], key
    assert set(first) == {
        "format",
        "part",
        "config",
        "versions",
        "backend",
        "machine",
        "seconds",
        "history",
        "evaluation",
    }
    # Margins come from held-out training classes: 3 and 4 of the digits 0 to 4.
    tuning = json.loads(
        (
            folder
            / "runs"
            / "tuning-digits-resnet_small-multi_similarity-b8-none-seed0.json"
        ).read_text()
    )
    assert tuning["evaluation"]["classes"] == [3, 4]
    assert first["evaluation"]["classes"] == [5, 6, 7, 8, 9]
    near, far = tuning["evaluation"]["calibration_range"]
    with_tcm = json.loads(
        (
            folder
            / "runs"
            / "comparison-digits-resnet_small-multi_similarity-b8-tcm0.3-seed1.json"
        ).read_text()
    )
    assert with_tcm["config"]["tcm"] == {
        "positive_margin": pytest.approx(1 - near, abs=6e-4),
        "negative_margin": pytest.approx(1 - far, abs=6e-4),
        "weight": 0.3,
    }
    auto = "comparison-digits-resnet_small-multi_similarity-b8-auto0.5-seed1.json"
    config = json.loads((folder / "runs" / auto).read_text())["config"]
    assert config["tcm"] == {"strength": 0.5}
