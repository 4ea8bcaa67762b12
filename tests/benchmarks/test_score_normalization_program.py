"""The program behind the page on normalised scores: its files and its tables."""

import dataclasses
import pathlib

import numpy as np
import pytest
import score_normalization
from score_normalization import Measured, Model, Scores

from keras_tcm import ScoreNormalization, choose_threshold, evaluate_embeddings

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHED = ROOT / score_normalization.RESULTS
MODEL = Model("codes", "resnet_small", "multi_similarity", False, False, 0)
HELD_OUT = dataclasses.replace(MODEL, is_held_out=True)


def test_results_are_read_as_they_were_written(tmp_path):
    found = {
        Scores(MODEL): Measured(0.004, 0.2, 0.8, 0.3, 0.008),
        Scores(MODEL, "shift", 20, 4000): Measured(0.003, 0.1, 0.9, 0.2, 0.007),
        Scores(MODEL, "as_norm", 20, 4000, True): Measured(0.1, 0.2, 0.3, 0.4, 0.5),
    }
    score_normalization.write(tmp_path / "new" / "results.csv", found)
    assert score_normalization.read(tmp_path / "new" / "results.csv") == found


def test_names_tell_models_apart():
    models = score_normalization.models()
    assert len({model.name for model in models}) == len(models)
    assert {model.plain for model in models} <= set(models)


def test_report_by_hand():
    other = dataclasses.replace(MODEL, dataset="glyphs")
    found = {}
    for model, ratio, points in ((MODEL, 0.5, 0.02), (other, 0.125, 0.04)):
        found[Scores(model)] = Measured(0.004, 0.2, 0.8, 0.3, 0.008)
        found[Scores(model, "shift", 20, 4000)] = Measured(
            0.004 * ratio, 0.2 - points, 0.8 + points / 2, 0.3 - 2 * points, 0.009
        )
    nan = float("nan")
    found[Scores(HELD_OUT)] = Measured(0.002, 0.3, 0.7, nan, nan)
    found[Scores(HELD_OUT, "shift", 5, 1000)] = Measured(0.003, 0.2, 0.7, nan, nan)
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in score_normalization.report(found).splitlines()
    ]
    # A quarter in geometric mean; points 2 and 4, 1 and 2, 4 and 8.
    change = ["-75.0%", "2 of 2", "-3.00", "+1.50", "-6.00", "+0.10"]
    assert ["neither", "shift", *change] in lines
    change = ["+50.0%", "0 of 1", "-10.00", "+0.00"]
    assert ["without TCM", "shift", "5", "1,000", *change] in lines
    (row,) = (
        line for line in lines if line[0] == "codes, resnet_small, multi_similarity"
    )
    assert row[1:] == ["4.00; 30.0 at 0.80; 80.0", "2.00; 26.0 at 0.90; 81.0"]


def test_measures_are_those_of_the_package(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(80), 6)
    x = rng.normal(size=(80, 8))[labels] + 0.4 * rng.normal(size=(480, 8))
    cohort_labels = np.repeat(np.arange(30), 10)
    cohort = rng.normal(size=(30, 8))[cohort_labels] + 0.4 * rng.normal(size=(300, 8))
    for model in (MODEL, HELD_OUT):
        np.savez(
            tmp_path / f"{model.name}.npz",
            embeddings=x,
            labels=labels,
            cohort=cohort,
            cohort_labels=cohort_labels,
        )
    monkeypatch.setattr(score_normalization, "FAR", 0.05)
    monkeypatch.setattr(score_normalization, "PROMISED_FAR", 0.05)
    for scores, normalization in (
        (Scores(MODEL), None),
        (Scores(MODEL, "shift", 7, 200), ScoreNormalization(cohort[:200], 7)),
        (
            Scores(MODEL, "as_norm", 7, 4000, True),
            ScoreNormalization(
                [cohort[cohort_labels == one].mean(axis=0) for one in range(30)],
                *(7, "as_norm"),
            ),
        ),
    ):
        found = score_normalization.measure(scores, tmp_path)
        options = {"score_normalization": normalization, "verbose": False}
        expected = evaluate_embeddings(x, labels, far_targets=(0.05,), **options)
        assert found.opis == expected.opis
        assert found.frr == expected.operating_points[0].frr
        assert found.recall_at_1 == expected.recall[1]
        halves = np.random.default_rng(0).permutation(80)
        is_first = np.isin(labels, halves[:40])
        checks = [
            choose_threshold(x[some], labels[some], far=0.05, **options).check(
                x[~some], labels[~some], **options
            )
            for some in (is_first, ~is_first)
        ]
        assert found.promised_frr == pytest.approx(np.mean([x.frr for x in checks]))
        held_out = dataclasses.replace(scores, model=HELD_OUT)
        assert np.isnan(score_normalization.measure(held_out, tmp_path).promised_frr)
        assert found.promised_far == pytest.approx(np.mean([x.far for x in checks]))


@pytest.mark.slow
def test_training_keeps_embeddings(tmp_path, monkeypatch):
    monkeypatch.setattr(score_normalization, "STEPS", 8)
    monkeypatch.setattr(score_normalization, "COHORTS", (50,))
    (x, y), test = score_normalization.datasets.load("codes")
    some = np.isin(y, np.unique(y)[:50])
    monkeypatch.setattr(
        score_normalization.datasets, "load", lambda name: ((x[some], y[some]), test)
    )
    for has_tcm in (False, True):
        model = dataclasses.replace(HELD_OUT, has_tcm=has_tcm)
        score_normalization.train(model, tmp_path)
        with np.load(tmp_path / f"{model.name}.npz", allow_pickle=False) as file:
            known = {name: file[name] for name in file.files}
        assert len(known["embeddings"]) == len(known["labels"])
        assert known["cohort"].shape == (50, known["embeddings"].shape[1])
        assert not set(known["cohort_labels"]) & set(known["labels"])
        assert np.isfinite(known["embeddings"]).all()


def test_published_results_are_those_of_the_plan():
    found = score_normalization.read(PUBLISHED)
    assert set(found) == set(score_normalization.plan())
    assert PUBLISHED.stat().st_size < 100_000


def test_page_has_the_tables_of_the_published_results():
    def squeezed(text):
        return [" ".join(line.split()) for line in text.splitlines()]

    page = squeezed(
        (ROOT / "docs" / "score_normalization.md").read_text(encoding="utf-8")
    )
    report = score_normalization.report(score_normalization.read(PUBLISHED))
    lines = [line for line in squeezed(report) if line.startswith("|")]
    assert len(lines) > 20
    # But for the rule below the header, whose width may differ.
    assert [x for x in lines if not x.startswith("| -") and x not in page] == []
