"""How margins and weight of TCM are chosen."""

import json

import numpy as np
import pytest
import study_runs

from keras_tcm.study import tuning
from keras_tcm.study.grid import TCMSetting
from keras_tcm.study.run_record import read_run


@pytest.fixture
def record(tmp_path):
    """Makes the record of a run on held-out classes."""

    def make(recall_at_1, opis, **values):
        measures = {**study_runs.measures(recall_at_1, opis), **values}
        path = tmp_path / "run.json"
        path.write_text(json.dumps(study_runs.run("tuning", measures=measures)))
        return read_run(path)

    return make


def test_weight_of_the_lowest_opis_is_chosen(record):
    before = record(0.9, 0.01)
    trials = {
        0.1: [(before, record(0.9, 0.009))],
        0.3: [(before, record(0.91, 0.006))],
        1.0: [(before, record(0.9, 0.008))],
    }
    assert tuning.choose_weight(trials) == 0.3


def test_opis_is_averaged_as_a_ratio(record):
    trials = {
        # Halved twice: a quarter of the way on the logarithmic scale.
        0.1: [
            (record(0.9, 0.001), record(0.9, 0.0005)),
            (record(0.9, 1.0), record(0.9, 0.5)),
        ],
        # A lower sum, but a ratio of 0.9 * 0.4 instead of 0.5 * 0.5.
        0.3: [
            (record(0.9, 0.001), record(0.9, 0.0009)),
            (record(0.9, 1.0), record(0.9, 0.4)),
        ],
    }
    assert tuning.choose_weight(trials) == 0.1


def test_weights_that_cost_accuracy_are_not_chosen(record):
    before = record(0.9, 0.01)
    trials = {
        0.1: [(before, record(0.8976, 0.009))],
        0.3: [(before, record(0.897, 0.001))],
    }
    assert tuning.choose_weight(trials) == 0.1
    # If all do, the smallest is.
    trials[0.1] = [(before, record(0.5, 0.009))]
    assert tuning.choose_weight(trials) == 0.1


def test_held_out_classes_are_the_last_quarter():
    labels = np.repeat(np.arange(10, 30), 3)
    np.testing.assert_array_equal(
        np.unique(labels[tuning.held_out(labels)]), np.arange(25, 30)
    )


def test_margins_are_the_similarities_at_the_calibration_range(record):
    plain = record(0.9, 0.01, calibration_range=[0.2, 0.65])
    assert tuning.margins(plain, 0.3) == TCMSetting(0.8, 0.35, 0.3)
