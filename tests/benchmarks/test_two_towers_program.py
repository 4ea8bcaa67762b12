"""The program behind the page on two towers: its files and its table."""

import pathlib

import numpy as np
import pytest
import two_towers
from two_towers import Measured, Model

import keras_tcm

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHED = ROOT / two_towers.RESULTS


def test_results_are_read_as_they_were_written(tmp_path):
    found = {
        Model("InfoNCE", False, 0): Measured(0.004, 0.8, 0.7, 0.01, 0.2, 0.3, 0.9),
        Model("SigLIP", True, 2): Measured(0.003, 0.9, 0.6, 0.02, 0.1, 0.2, 0.8),
    }
    two_towers.write(tmp_path / "new" / "results.csv", found)
    assert two_towers.read(tmp_path / "new" / "results.csv") == found


def test_names_tell_models_apart():
    models = two_towers.models()
    assert len({model.name for model in models}) == len(models)


def test_report_by_hand():
    found = {}
    for seed, ratio in ((0, 0.5), (1, 0.125)):
        before = Measured(0.004, 0.8, 0.7, 0.008, 0.2, 0.3, 0.9)
        after = Measured(0.004 * ratio, 0.82, 0.7, 0.008, 0.1, 0.3, 0.8)
        found[Model("InfoNCE", False, seed)] = before
        found[Model("InfoNCE", True, seed)] = after
        found[Model("SigLIP", False, seed)] = before
        found[Model("SigLIP", True, seed)] = before
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in two_towers.report(found).splitlines()
    ]
    by_name = {line[0]: line[1:] for line in lines}
    assert by_name["AutoTCM(InfoNCE)"][:2] == ["2", "1.25 ± 1.06"]
    # A quarter in geometric mean.
    changes = ["-75.0%", "+2.00", "+0.00", "+0.00", "-10.00", "+0.00", "-10.00"]
    assert by_name["change of InfoNCE"][1:] == changes
    assert by_name["change of SigLIP"][1:3] == ["+0.0%", "+0.00"]


def test_measures_are_those_of_the_package(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(90), 5)

    def towers():
        centres = rng.normal(size=(90, 1, 8))
        return centres[labels] + 0.5 * rng.normal(size=(450, 2, 8))

    held_out, test = towers(), towers()
    model = Model("InfoNCE", False, 0)
    np.savez(
        tmp_path / f"{model.name}.npz",
        held_out=held_out,
        held_out_labels=labels,
        test=test,
        test_labels=labels,
    )
    monkeypatch.setattr(two_towers, "FAR", 0.03)
    found = two_towers.measure(model, tmp_path)
    unit = test / np.linalg.norm(test, axis=-1, keepdims=True)
    distances = 1 - unit[:, 0] @ unit[:, 1].T
    same = labels[:, None] == labels[None]
    threshold = keras_tcm.choose_threshold(held_out, labels, far=0.03, verbose=False)
    answered = labels < 60
    accepted = distances[:, answered] <= threshold.value
    # A pair may lie at the threshold.
    assert found.far == pytest.approx(accepted[~same[:, answered]].mean(), abs=1e-4)
    frr = 1 - accepted[same[:, answered]].mean()
    assert found.frr == pytest.approx(frr, abs=1e-3)
    catalogue = distances[:, :300:5] <= threshold.value
    right = catalogue[np.arange(300), labels[:300]]
    assert found.catalogue_frr == pytest.approx(1 - right.mean())
    rejected = ~catalogue[~answered].any(axis=1)
    assert found.rejected == pytest.approx(rejected.mean())
    nearest = np.argmin(distances, axis=0)
    captions = np.mean(labels[nearest] == labels)
    assert found.recall_of_captions == pytest.approx(captions, abs=1e-3)


@pytest.mark.slow
def test_training_keeps_embeddings(tmp_path, monkeypatch):
    monkeypatch.setattr(two_towers, "EPOCHS", {"InfoNCE": 1, "SigLIP": 1})
    monkeypatch.setattr(two_towers, "BATCH", 32)
    ((tokens, images), y), ((test_tokens, test_images), y_test) = (
        two_towers.scenes.load()
    )
    some, few = y < 24, y_test < 604
    monkeypatch.setattr(
        two_towers.scenes,
        "load",
        lambda: (
            ((tokens[some], images[some]), y[some]),
            ((test_tokens[few], test_images[few]), y_test[few]),
        ),
    )
    for loss in two_towers.LOSSES:
        model = Model(loss, True, 0)
        two_towers.train(model, tmp_path)
        with np.load(tmp_path / f"{model.name}.npz", allow_pickle=False) as file:
            known = {name: file[name] for name in file.files}
        for name in "held_out", "test":
            shape = (len(known[f"{name}_labels"]), 2, two_towers.DIM)
            assert known[name].shape == shape
            assert np.isfinite(known[name]).all()
        # A quarter of the 24 classes.
        assert len(np.unique(known["held_out_labels"])) == 6


def test_published_results_are_those_of_the_plan():
    assert set(two_towers.read(PUBLISHED)) == set(two_towers.models())


def test_page_has_the_table_of_the_published_results():
    def squeezed(text):
        return [" ".join(line.split()) for line in text.splitlines()]

    page = squeezed((ROOT / "docs" / "two_towers.md").read_text(encoding="utf-8"))
    report = squeezed(two_towers.report(two_towers.read(PUBLISHED)))
    assert len(report) > 6
    # But for the rule below the header, whose width may differ.
    assert [x for x in report if not x.startswith("| -") and x not in page] == []
