"""The package has the reference values, on every backend."""

import inspect

import numpy as np
import pytest

import keras_tcm
from keras_tcm import evaluate_embeddings, losses, reference

CASES = {case.name: case for case in reference.cases()}
EVALUATIONS = [name for name, case in CASES.items() if case.kind == "evaluation"]
LOSSES = [name for name, case in CASES.items() if case.kind == "tcm"]


def assert_agrees(case, computed):
    assert computed.keys() == case.expected.keys()
    for name, value in computed.items():
        np.testing.assert_allclose(
            np.array(value, "float64"),
            case.expected[name],
            rtol=0,
            atol=case.tolerances[name],
            err_msg=name,
        )


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluate_embeddings(name):
    case = CASES[name]
    result = evaluate_embeddings(**case.inputs, **case.options, verbose=False)
    points = result.operating_points
    rates = result.rates_at(case.options["at_thresholds"])
    assert_agrees(
        case,
        {
            "classes": result.classes,
            "calibration_range": result.calibration_range,
            "utility": result.utility,
            "opis_per_class": result.opis_per_class,
            "opis": result.opis,
            "epsilon_opis": result.epsilon_opis,
            "eer": result.eer,
            "recall": list(result.recall.values()),
            "map_at_r": result.map_at_r,
            "far": rates.far,
            "frr": rates.frr,
            "per_class_far": rates.per_class_far,
            "per_class_frr": rates.per_class_frr,
            "operating_threshold": [point.threshold for point in points],
            "operating_far": [point.far for point in points],
            "operating_frr": [point.frr for point in points],
            "operating_per_class_far": np.transpose(
                [point.per_class_far for point in points]
            ),
            "operating_per_class_frr": np.transpose(
                [point.per_class_frr for point in points]
            ),
        },
    )


@pytest.mark.parametrize("name", LOSSES)
def test_tcm(name, value_and_grad):
    case = CASES[name]
    loss = losses.TCM(**case.options)
    value, gradient = value_and_grad(
        loss, case.inputs["labels"], case.inputs["embeddings"]
    )
    assert_agrees(case, {"loss": value, "gradient": gradient})


@pytest.mark.parametrize("epsilon", [None, 0.1])
def test_opis_metric(epsilon):
    case = CASES["defaults"]
    metric = keras_tcm.OPIS(epsilon=epsilon)
    metric.update_state(case.inputs["labels"], case.inputs["embeddings"])
    expected = case.expected["opis" if epsilon is None else "epsilon_opis"]
    assert float(metric.result()) == pytest.approx(float(expected))


def test_the_defaults_are_those_of_the_package():
    parameters = inspect.signature(evaluate_embeddings).parameters
    for name, value in CASES["defaults"].options.items():
        if name != "at_thresholds":
            default = parameters[name].default
            default = list(default) if isinstance(default, tuple) else default
            assert default == value, name
    parameters = inspect.signature(losses.TCM).parameters
    for name, value in CASES["TCM, defaults"].options.items():
        assert parameters[name].default == value, name
