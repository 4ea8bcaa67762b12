"""The figure of what AutoTCM set itself to."""

import types

import numpy as np
import pytest

from keras_tcm.metrics.auto_tcm_monitor import NAMES
from keras_tcm.visualization import plot_auto_tcm

LOGS = {name: [0.1 * place, 0.2, 0.3] for place, name in enumerate(NAMES)}


@pytest.mark.parametrize("wrap", [dict, lambda x: types.SimpleNamespace(history=x)])
def test_every_number_is_drawn(wrap):
    figure = plot_auto_tcm(wrap({**LOGS, "loss": [3.0, 2.0, 1.0]}))
    lines = [line for ax in figure.axes for line in ax.get_lines()]
    drawn = sorted(line.get_ydata().tolist() for line in lines)
    assert drawn == sorted(LOGS.values())
    for line in lines:
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    assert {text.get_text() for ax in figure.axes for text in ax.get_legend().texts} > {
        "positive margin",
        "weight",
    }


@pytest.mark.parametrize("history", [{"loss": [1.0]}, None, [1.0]])
def test_logs_of_another_training(history):
    with pytest.raises(ValueError, match="`history` must have the logs of"):
        plot_auto_tcm(history)
