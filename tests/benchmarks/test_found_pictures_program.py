"""The program behind the page on pictures that others drew."""

import dataclasses
import pathlib

import found_pictures
import keras
import numpy as np
import pytest
import score_normalization
from found_pictures import Measured, Model, Scores

from keras_tcm import (
    ScoreNormalization,
    choose_threshold,
    compare_embeddings,
    evaluate_embeddings,
)

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHED = ROOT / found_pictures.RESULTS
PAGE = ROOT / "docs" / "found_pictures.md"
MODEL = Model("icons", 0, has_tcm=False, is_augmented=True)
TCM = dataclasses.replace(MODEL, has_tcm=True)


def measured(**changes):
    values = [0.004, 0.02, 0.8, 0.9, 0.8, 0.6, 0.3, 0.018, 0.25, 0.04, 0.1]
    return dataclasses.replace(Measured(*values), **changes)


def cells(text):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
    ]


def test_results_are_read_as_they_were_written(tmp_path):
    found = {
        Scores(MODEL, "none"): measured(low=-0.5, high=0.25),
        Scores(TCM, "shift"): measured(opis=0.003, low=0.0, high=0.0),
    }
    found_pictures.write(tmp_path / "new" / "results.csv", found)
    assert found_pictures.read(tmp_path / "new" / "results.csv") == found


def test_names_tell_models_apart():
    models = found_pictures.models()
    assert len({model.name for model in models}) == len(models)
    assert {model.plain for model in models} <= set(models)


def test_report_by_hand():
    found = {}
    for seed, ratio in enumerate((0.5, 0.125)):
        one = dataclasses.replace(MODEL, seed=seed)
        found[Scores(one, "none")] = measured()
        found[Scores(dataclasses.replace(one, has_tcm=True), "none")] = measured(
            opis=0.004 * ratio, recall_at_1=0.82, tar_2=0.9, low=-0.6, high=-0.1 * seed
        )
    lines = cells(found_pictures.report(found))
    (row,) = (
        x for x in lines if x[:3] == ["icons", "augmented", "AutoTCM"] and len(x) == 8
    )
    # A quarter in geometric mean, of two seeds; the others do not differ.
    assert row[3:5] == ["2", "1.25"]
    assert row[5].startswith("-75.0% (-100.0 to ")
    assert row[6] == "+0.0% (+0.0 to +0.0)"
    assert row[7] == "+2.0 (+2.0 to +2.0)"
    assert ["icons", "augmented", "0: -60% to -0%; 1: -60% to -10%"] in lines
    assert ["icons", "augmented", "neither", "90.0", "80.0", "60.0", "30.0"] in lines
    assert ["icons", "augmented", "AutoTCM", "90.0", "90.0", "60.0", "30.0"] in lines
    assert ["icons", "augmented", "neither", "1.80", "25.00", "4.00", "10.00"] in lines


def test_measures_are_those_of_the_package(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(80), 6)
    arrays = {}
    for model, noise in ((MODEL, 0.4), (TCM, 0.3)):
        x, others = (
            rng.normal(size=(80, 8))[labels] + noise * rng.normal(size=(480, 8))
            for _ in range(2)
        )
        arrays[model] = {
            **{"icons": x, "icons_labels": labels, "emoji": others},
            **{"emoji_labels": labels, "cohort": rng.normal(size=(300, 8))},
        }
        np.savez(tmp_path / f"{model.name}.npz", **arrays[model])
    monkeypatch.setattr(found_pictures, "PROMISED_FAR", 0.05)
    monkeypatch.setattr(score_normalization, "PROMISED_FAR", 0.05)
    for model, method in ((MODEL, "shift"), (TCM, "none")):
        found = found_pictures.measure(Scores(model, method), tmp_path)
        x, others = arrays[model]["icons"], arrays[model]["emoji"]
        normalization = None
        if method == "shift":
            normalization = ScoreNormalization(arrays[model]["cohort"], 20)
        options = {"score_normalization": normalization, "verbose": False}
        expected = evaluate_embeddings(x, labels, far_targets=(0.01,), **options)
        assert found.opis == expected.opis
        assert found.recall_at_1 == expected.recall[1]
        assert found.tar_2 == 1 - expected.operating_points[0].frr
        check = choose_threshold(x, labels, far=0.05, **options).check(
            others, labels, **options
        )
        assert (found.other_far, found.other_frr) == (check.far, check.frr)
    change = compare_embeddings(arrays[MODEL]["icons"], x, labels).changes["opis"]
    assert (found.low, found.high) == change.relative.interval


@pytest.mark.slow
def test_training_keeps_embeddings_of_both_sets(tmp_path, monkeypatch):
    monkeypatch.setattr(found_pictures, "STEPS", 8)
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(40), 5)

    def load(name, data_dir):
        assert data_dir == found_pictures.PACKAGES
        channels = {"icons": 1, "emoji": 3}[name]
        x = rng.integers(0, 256, (200, 32, 32, channels)).astype("uint8")
        return (x, y), (x[::2], y[::2])

    monkeypatch.setattr(found_pictures.datasets, "load", load)
    found_pictures.train(TCM, tmp_path)
    with np.load(tmp_path / f"{TCM.name}.npz", allow_pickle=False) as file:
        assert file["cohort"].shape == (200, 64)
        for name in found_pictures.DATA_SETS:
            assert file[name].shape == (100, 64)
            np.testing.assert_array_equal(file[f"{name}_labels"], y[::2])


def test_unified_threshold_is_the_best_of_its_batch(value_and_grad):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 3)
    x = rng.normal(size=(4, 5))[labels] + 0.7 * rng.normal(size=(12, 5))

    def at(x, b):
        u = x / np.linalg.norm(x, axis=1, keepdims=True)
        logits = 64 * u @ u.T
        same = labels[:, None] == labels
        positive = logits[same & ~np.eye(12, dtype=bool)]
        negative = np.where(same, 0, np.exp(logits - b)).sum(axis=1)
        return np.log1p(np.exp(b - positive)).mean() + np.log1p(negative).mean()

    candidates = np.linspace(-64, 128, 19201)
    best = candidates[np.argmin([at(x, b) for b in candidates])]
    loss = found_pictures.UnifiedThreshold()

    def on_unit_vectors(y, x, sample_weight=None):
        return loss(y, keras.ops.normalize(x, axis=1))

    value, gradient = value_and_grad(on_unit_vectors, labels, x)
    assert value == pytest.approx(at(x, best), rel=1e-4)
    step = np.zeros_like(x)
    for place in [(0, 0), (5, 3)]:
        step[place] = 1e-4
        slope = (at(x + step, best) - at(x - step, best)) / 2e-4
        assert gradient[place] == pytest.approx(slope, rel=2e-2, abs=1e-2)
        step[place] = 0


def test_icons_are_made_dark_on_white():
    icons = np.array([[[[0], [255]]]], "uint8")
    colour = found_pictures._in_colour(icons)
    assert colour.tolist() == [[[[255] * 3, [0] * 3]]]
    assert found_pictures._in_colour(colour) is colour


def test_the_page_has_what_the_program_reports():
    page = cells(PAGE.read_text("utf-8"))
    rows = cells(found_pictures.report(found_pictures.read(PUBLISHED)))
    data = [row for row in rows if row[0] in found_pictures.DATA_SETS]
    assert len(data) > 8
    assert [row for row in data if row not in page] == []
