"""The demo: what it trains and writes, how it goes on, and how long it takes."""

import concurrent.futures
import contextlib
import json
import os
import time

import keras
import numpy as np
import pytest
from processes import interrupt, start, wait_until

import keras_tcm
from keras_tcm import Evaluation, cli
from keras_tcm.datasets import glyphs
from keras_tcm.study import demo, runner, training
from keras_tcm.study.demo import DemoSettings, run_demo
from keras_tcm.study.grid import AutoTCMSetting
from keras_tcm.study.pace import Pace, TooSlowError

NAMES = ["MultiSimilarity", "MultiSimilarity + AutoTCM"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A cache with bright spots at places that differ from class to class."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def write_data(folder, seed=0):
    rng = np.random.default_rng(seed)

    def draw(classes, per_class):
        y = np.repeat(classes, per_class)
        places = rng.uniform(1, 7, size=(60, 3, 2))[y]
        places = places + rng.normal(scale=0.4, size=places.shape)
        grid = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), -1)
        offsets = grid[None, None] - places[:, :, None, None]
        light = np.exp(-np.square(offsets).sum(axis=-1)).sum(axis=1)
        pixels = np.clip(255 * light, 0, 255).astype("uint8")
        return pixels[..., None], y

    x_train, y_train = draw(np.arange(40), 8)
    x_test, y_test = draw(np.arange(40, 52), 8)
    np.savez(
        folder / glyphs._SET.file_name,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        characters=np.arange(ord("A"), ord("A") + 52, dtype="uint32"),
    )


@pytest.fixture
def in_this_process(monkeypatch):
    """Train where the test can watch."""

    def submit(function, *arguments):
        future = concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future

    @contextlib.contextmanager
    def worker_processes(number):
        yield submit

    monkeypatch.setattr(demo, "worker_processes", worker_processes)
    runner._data.cache_clear()
    yield
    runner._data.cache_clear()


@pytest.fixture
def without_training(in_this_process, monkeypatch):
    """Skip the trainings; a list of the loss, steps and seed of each."""
    trained = []

    def train(x, y, loss, steps, seed, recipe, batch_size, callbacks):
        assert (recipe, batch_size) == (training.Recipe(), 128)
        trained.append((loss, steps, seed))
        return None, {"loss": [1.0]}

    def embed(model, x):
        # Another model each time, for its place in the report to show.
        noise = np.random.default_rng(len(trained)).normal(size=(len(x), 64))
        return noise + x.reshape(len(x), 64)

    monkeypatch.setattr(runner, "train_embedding_model", train)
    monkeypatch.setattr(runner, "embed", embed)
    # Collects garbage, of all tests.
    monkeypatch.setattr(keras.utils, "clear_session", lambda: None)
    # Takes longer than everything else.
    monkeypatch.setattr(demo, "write_report", lambda *_, **__: None)
    return trained


def run(out, data_dir, *options):
    arguments = ["demo", "--out", out, "--data-dir", data_dir, *options]
    return cli.run([str(argument) for argument in arguments])


def read_results(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


# -------------------------------------------------------------------- what it trains


def test_settings_of_the_losses(tmp_path, data_dir, without_training, monkeypatch):
    added = []
    monkeypatch.setattr(
        AutoTCMSetting, "add_to", lambda self, loss: added.append(self) or "with TCM"
    )
    for loss in demo.BASE_LOSSES:
        without_training.clear()
        assert run(tmp_path / loss, data_dir, "--loss", loss, "--seed", "3") == 0
        (plain, *rest), (with_tcm, *same) = without_training
        assert type(plain) is demo.BASE_LOSSES[loss]
        assert with_tcm == "with TCM"
        assert rest == same == [2000, 3]
        assert added.pop() == AutoTCMSetting()
        assert read_results(tmp_path / loss)["settings"]["loss"] == loss


@pytest.mark.slow
def test_both_models_have_the_same_start(
    tmp_path, data_dir, in_this_process, monkeypatch, capsys
):
    starts, batches = [], []
    embedding_model = training.models.embedding_model

    def watched_model(*arguments, **options):
        model = embedding_model(*arguments, **options)
        starts.append([np.array(weight) for weight in model.get_weights()])
        return model

    class WatchedSampler(training.data.ClassBalancedSampler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            batches.append([self[index] for index in range(len(self))])

    monkeypatch.setattr(training.models, "embedding_model", watched_model)
    monkeypatch.setattr(training.data, "ClassBalancedSampler", WatchedSampler)
    out = tmp_path / "out"
    options = ["--steps", 5, "--seed", 5, "--loss", "multi_similarity"]
    assert run(out, data_dir, *options, "--tcm", 0.8, 0.4, 0.3) == 0

    first, second = starts
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])

    stems = ["multisimilarity", "multisimilarity_tcm"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["results.json", "runs", "table.md", "utility.png"]
        + [f"{stem}.{kind}" for stem in stems for kind in ("html", "json")]
    )
    results = read_results(out)
    assert results["settings"] == {
        "loss": "multi_similarity",
        "tcm": {"positive_margin": 0.8, "negative_margin": 0.4, "weight": 0.3},
        # As many as were done: a multiple of the eight parts of a training.
        "steps": 8,
        "seed": 5,
    }
    assert results["steps_in_the_readme"] == 2000
    assert results["backend"] == keras.backend.backend()
    assert results["versions"]["keras"] == keras.__version__
    assert results["test"] == {"images": 96, "classes": 12}
    names = ["MultiSimilarity", "MultiSimilarity + TCM"]
    assert list(results["results"]) == list(results["training_seconds"]) == names
    values = []
    for stem, result in zip(stems, results["results"].values(), strict=True):
        saved = Evaluation.load(out / f"{stem}.json")
        assert saved.num_samples == 96
        assert list(saved.classes) == list(range(40, 52))
        assert result["opis"] == saved.opis
        assert result["recall_at_1"] == saved.recall[1]
        values.append(saved.opis)
        point, loaded = result["operating_points"][1], saved.operating_points[1]
        assert (point["far_target"], point["threshold"]) == (0.01, loaded.threshold)
    # The same start, but not the same training.
    assert values[0] != values[1]
    (line,) = (
        line for line in (out / "table.md").read_text().splitlines() if "| OPIS" in line
    )
    cells = [cell.strip() for cell in line.split("|")[2:5]]
    assert cells[:2] == [f"{value:.6f}" for value in values]
    assert float(cells[2].rstrip("%")) == pytest.approx(
        100 * (values[1] / values[0] - 1), abs=0.051
    )
    printed = capsys.readouterr().out
    # However long the name of the folder.
    assert max(map(len, printed.replace(str(out), "out").splitlines())) <= 80
    assert "8 training steps each, tested on 96 images of 12" in printed
    assert str(out) in printed.replace("\n", "")


# ------------------------------------------------------------------------ going on


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_interrupted_and_started_again(tmp_path, data_dir, capfd):
    out = tmp_path / "out"
    command = ["-m", "keras_tcm_command", "demo", "--steps", "8"]
    process = start(*command, "--out", out, "--data-dir", data_dir)
    (first,) = wait_until(lambda: list(out.glob("runs/*.json")), process)
    errors = interrupt(process)
    assert errors.count("Traceback") <= 1, errors
    assert (
        first.name
        == "comparison-glyphs-resnet_small-multi_similarity-b128-none-seed0.json"
    )
    before = first.stat().st_mtime_ns
    assert [path.name for path in out.glob("runs/*.json")] == [first.name]
    assert not (out / "results.json").exists()

    capfd.readouterr()
    assert run(out, data_dir, "--steps", 8) == 0
    output = capfd.readouterr().out
    assert "MultiSimilarity has been trained before" in output
    assert "8 of 8" in output
    assert first.stat().st_mtime_ns == before
    assert all(path.suffix == ".json" for path in out.glob("runs/*"))

    undisturbed = tmp_path / "undisturbed"
    assert run(undisturbed, data_dir, "--steps", 8) == 0
    assert read_results(out)["results"] == read_results(undisturbed)["results"]
    for name in "multisimilarity.json", "multisimilarity_autotcm.json", "table.md":
        assert (out / name).read_text() == (undisturbed / name).read_text()


def test_what_is_finished_is_not_trained_again(
    tmp_path, data_dir, without_training, capsys
):
    assert run(tmp_path, data_dir, "--steps", 8) == 0
    assert len(without_training) == 2
    results = read_results(tmp_path)
    (tmp_path / "results.json").unlink()
    (tmp_path / "runs" / "half.json.part").write_text("{")
    capsys.readouterr()
    # 6 steps become 8.
    assert run(tmp_path, data_dir, "--steps", 6) == 0
    assert len(without_training) == 2
    assert capsys.readouterr().out.count("has been trained before") == 2
    assert {**read_results(tmp_path), "settings": None} == {**results, "settings": None}
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", 16], "steps 8, now 16"),
        ([], "steps 8, now 2000"),
        (["--steps", 8, "--tcm", 0.7, 0.5, 0.3], "1 more of other settings"),
        (["--steps", 8, "--seed", 1], "2 more of other settings"),
        (["--steps", 8, "--loss", "triplet_margin"], "2 more of other settings"),
    ],
)
def test_other_options(tmp_path, data_dir, without_training, capsys, options, said):
    assert run(tmp_path, data_dir, "--steps", 8) == 0
    capsys.readouterr()
    assert run(tmp_path, data_dir, *options) == 0
    # Without TCM, its margins do not matter.
    assert len(without_training) == (3 if "--tcm" in options else 4)
    assert said in " ".join(capsys.readouterr().out.split())


def test_other_margins(tmp_path, data_dir, without_training, capsys):
    assert run(tmp_path, data_dir, "--steps", 8, "--tcm", 0.8, 0.5, 0.3) == 0
    assert run(tmp_path, data_dir, "--steps", 8, "--tcm", 0.7, 0.5, 0.3) == 0
    assert len(without_training) == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert "now {'positive_margin': 0.7" in printed


@pytest.mark.parametrize("what", ["data", "version", "backend", "damaged", "foreign"])
def test_other_circumstances(tmp_path, without_training, monkeypatch, capsys, what):
    write_data(tmp_path)
    out = tmp_path / "out"
    assert run(out, tmp_path, "--steps", 8) == 0
    capsys.readouterr()
    records = sorted((out / "runs").iterdir())
    said = "has other settings"
    if what == "data":
        write_data(tmp_path, seed=1)
        runner._data.cache_clear()
    elif what == "version":
        monkeypatch.setattr(keras_tcm, "__version__", "99.0")
        said = "now 99.0"
    elif what == "backend":
        for path in records:
            record = json.loads(path.read_text())
            path.write_text(json.dumps({**record, "backend": "theano"}))
        said = "backend theano, now"
    elif what == "damaged":
        for path in records:
            path.write_text(path.read_text()[:-100])
        said = "not JSON"
    else:
        for path in records:
            path.write_text("[]")
        said = "does not hold a run"
    assert run(out, tmp_path, "--steps", 8) == 0
    assert len(without_training) == 4
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("is trained anew") == 2
    assert printed.count(said) == 2
    # And now they are this demo's.
    assert run(out, tmp_path, "--steps", 8) == 0
    assert len(without_training) == 4


# ----------------------------------------------------------------------------- time


class Clock:
    """Time that passes at each step of a training, and not otherwise."""

    def __init__(self, monkeypatch, seconds):
        self.now = 1000.0
        self.seconds = seconds
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        on_train_batch_end = Pace.on_train_batch_end

        def passing(pace, batch, logs=None):
            self.now += self.seconds(batch)
            on_train_batch_end(pace, batch, logs)

        monkeypatch.setattr(Pace, "on_train_batch_end", passing)


def fit(pace, steps):
    """What `fit` tells a callback."""
    pace.set_params({"epochs": 8, "steps": steps // 8})
    pace.on_train_begin()
    for epoch in range(8):
        for batch in range(steps // 8):
            pace.on_train_batch_end(batch if epoch else batch - 1000, {"loss": 0.5})
        pace.on_epoch_end(epoch, {"loss": 0.25})
    pace.on_train_end()


def steady(start, seconds):
    """A first step that takes long, and others of the same length."""
    return lambda batch: start if batch == -1000 else seconds


def test_enough_time(monkeypatch, capsys):
    Clock(monkeypatch, steady(10.0, 0.2))
    pace = Pace(2, 60.0 * 20)
    fit(pace, 2000)
    # 2 x (10 + 1999 x 0.2) seconds are 13.7 minutes.
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A step takes 0.2 s here: 12 to 18 minutes in all."
    # 1750 steps of this model, and 10 s and 2000 steps of the other.
    assert lines[1] == "  step 250 of 2,000, loss 0.2500, 13 min left in all"
    assert lines[8] == "  step 2,000 of 2,000, loss 0.2500, 7 min left in all"
    fit(pace, 2000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].endswith("loss 0.2500, less than a minute left in all")


def test_too_little_time(monkeypatch, capsys):
    clock = Clock(monkeypatch, steady(10.0, 0.5))
    pace = Pace(2, 60.0 * 20)
    before = clock.now
    with pytest.raises(TooSlowError) as error:
        fit(pace, 2000)
    # 10 s, 2 steps, and the 20 that were measured.
    spent = clock.now - before
    assert spent == 10 + 22 * 0.5

    # All of this and two trainings fit into 20 minutes, and no more would.
    def needs(steps):
        return spent + 2 * (10 + (steps - 1) * 0.5)

    assert needs(error.value.steps) <= 1200 < needs(error.value.steps + 41)
    assert error.value.steps % 40 == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "30 to 43 minutes" in printed
    assert f"with {error.value.steps:,} steps each" in printed
    assert "--steps 2000" in printed
    # Then it is decided.
    fit(pace, error.value.steps)


def test_one_step_that_is_held_up_decides_nothing(monkeypatch):
    Clock(monkeypatch, lambda batch: 300.0 if batch == -990 else 0.2)
    fit(Pace(2, 60.0 * 20), 2000)


def test_a_very_slow_machine_is_not_measured_for_long(monkeypatch):
    clock = Clock(monkeypatch, steady(60.0, 40.0))
    pace = Pace(2, 60.0 * 20)
    with pytest.raises(TooSlowError) as error:
        fit(pace, 2000)
    assert clock.now == 1000 + 60 + 7 * 40
    assert error.value.steps == 40


def test_steps_that_were_asked_for(monkeypatch):
    Clock(monkeypatch, steady(10.0, 9.0))
    fit(Pace(2, None), 2000)


@pytest.mark.slow
def test_fewer_steps_give_what_so_many_steps_give(
    tmp_path, data_dir, in_this_process, monkeypatch, capsys
):
    monkeypatch.setattr(demo, "DEMO_STEPS", 40)
    monkeypatch.setattr("keras_tcm.study.pace._STEPS_UNIT", 8)
    Clock(monkeypatch, lambda batch: 40.0)
    settings = DemoSettings("multi_similarity")
    # Of the 30 steps of 20 minutes 8 are measured, and 2 x 3 taken for the start.
    chosen, steps = run_demo(tmp_path / "chosen", settings, data_dir)
    assert steps == 8
    assert read_results(tmp_path / "chosen")["settings"]["steps"] == 8
    assert "with 8 steps each" in " ".join(capsys.readouterr().out.split())
    forced, steps = run_demo(
        tmp_path / "forced", DemoSettings("multi_similarity", steps=8), data_dir
    )
    assert steps == 8
    for name in NAMES:
        assert chosen[name].to_dict() == forced[name].to_dict()

    # The choice holds when the demo goes on, though the machine is fast now,
    (lost,) = (tmp_path / "chosen" / "runs").glob("*auto0.5*.json")
    record = json.loads(lost.read_text())
    lost.unlink()
    Clock(monkeypatch, lambda batch: 0.0)
    again, steps = run_demo(tmp_path / "chosen", settings, data_dir)
    assert steps == 8
    assert again[NAMES[1]].to_dict() == chosen[NAMES[1]].to_dict()
    assert json.loads(lost.read_text())["history"] == record["history"]
    # while a number that was asked for is no choice.
    capsys.readouterr()
    monkeypatch.setattr(demo, "DEMO_STEPS", 16)
    _, steps = run_demo(tmp_path / "forced", settings, data_dir)
    assert steps == 16
    assert capsys.readouterr().out.count("is trained anew") == 2
