"""Shared fixtures. The backend is chosen by KERAS_BACKEND, one per process."""

import importlib.util
import os
import shutil

import as_installed
import numpy as np
import pytest
from hypothesis import settings

if importlib.util.find_spec("torch"):
    # PyTorch is the peers' framework in every process, and crashes when it is loaded
    # after TensorFlow.
    import torch

import keras

# The same examples in every run: a failure must not depend on the day.
settings.register_profile("keras_tcm", deadline=None, derandomize=True)
settings.load_profile("keras_tcm")


# What no backend touches, or only through what other tests are about: `make test`
# runs it on one of them.
BACKEND_FREE = (
    "benchmarks",
    "cli",
    "data/test_class_schedule.py",
    "data/test_image_modes.py",
    "data/test_images.py",
    "datasets",
    "docs/test_site.py",
    # The evaluator takes the products of its tiles from the backend, which the other
    # files of this folder are about.
    "evaluation/test_compare_embeddings.py",
    "evaluation/test_error_rates.py",
    "evaluation/test_evaluation.py",
    "evaluation/test_evaluation_errors.py",
    "evaluation/test_gallery_of_queries.py",
    "evaluation/test_integer_limits.py",
    "evaluation/test_open_set_intervals.py",
    "evaluation/test_rates_at.py",
    "evaluation/test_sampled_evaluation.py",
    "evaluation/test_shards.py",
    # Other backends have the values of the same references.
    "losses/test_two_tower_peers.py",
    # The code of a page or a notebook calls what has tests of its own. A page runs in
    # docs/test_installs.py too, on the backend that it names, and the first notebook on
    # every one.
    "data/test_samplers_page.py",
    "docs/test_pages.py",
    "models/test_models_page.py",
    "notebooks/test_notebooks.py::test_real_data_setting_runs",
    "notebooks/test_notebooks.py::test_runs[02_resnet_retrieval]",
    "notebooks/test_notebooks.py::test_runs[03_vit_retrieval]",
    "notebooks/test_notebooks.py::test_runs[04_choosing_a_threshold]",
    "notebooks/test_notebooks.py::test_runs[06_toy_embeddings]",
    "notebooks/test_notebooks.py::test_runs[07_text_to_image]",
    "test_readme.py",
    "test_release.py",
    "test_relevance_objects.py::test_the_page_runs",
    "reference/test_common_mistakes.py",
    "reference/test_definition.py",
    "report",
    "study/test_demo.py",
    "study/test_runner.py::test_killed_and_resumed",
    "study/test_runner.py::test_run_on_image_files",
    "study/test_study_report.py",
    "study/test_summary.py",
    "study/test_toy.py",
    "study/test_tuning.py",
    "study/test_worker_processes.py",
    "test_backend.py",
    "test_class_names.py",
    "test_oracles.py",
    "test_package.py::test_example[keras_tcm.visualization.",
    # Statistics of an evaluation, and files: the other tests have tensors and models.
    "threshold/test_choose_threshold.py::TestClasses",
    "threshold/test_choose_threshold.py::TestPopulation",
    "threshold/test_matcher.py::TestFiles::test_a_save_that_is_killed",
    "threshold/test_matcher.py::TestFiles::test_files_of_something_else",
    "threshold/test_matcher.py::TestFiles::test_several_save",
    "threshold/test_threshold.py",
    # The matcher that others are compared with has a file of its own.
    "threshold/test_vector_databases.py",
    "visualization",
)


def pytest_collection_modifyitems(items):
    """Mark what is free of the backend, and leave slow pages to docs/test_installs.py.

    That is, those on the backend that they name. What is slow comes first, lest one
    worker be busy with it when the others have nothing left.
    """
    free = tuple(f"tests/{name}" for name in BACKEND_FREE)
    for item in items:
        if item.nodeid.startswith(free):
            item.add_marker(pytest.mark.backend_free)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if as_installed.FLAG in os.environ:
        return
    backend = keras.backend.backend()
    elsewhere = tuple(as_installed.tests_on(backend))
    for item in items:
        if item.get_closest_marker("slow") and item.nodeid.startswith(elsewhere):
            reason = (
                "runs in docs/test_installs.py, with what the page tells to install"
            )
            item.add_marker(pytest.mark.skip(reason=reason))


def _tensor(x, dtype=None):
    return keras.ops.convert_to_tensor(x, dtype=dtype)


def _tensorflow_value_and_grad(function, x, extras, jit):
    import tensorflow as tf

    def compute(x, *extras):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x, *extras)
        return value, tape.gradient(value, x)

    if jit:
        compute = tf.function(compute, jit_compile=True)
    value, gradient = compute(x, *extras)
    assert gradient is not None, "the loss is not connected to the embeddings"
    return value, gradient


def _jax_value_and_grad(function, x, extras, jit):
    import jax

    compute = jax.value_and_grad(function)
    return (jax.jit(compute) if jit else compute)(x, *extras)


def _torch_value_and_grad(function, x, extras, jit):
    import torch

    x = x.detach().clone().requires_grad_(True)
    compiled = torch.compile(function) if jit else function
    value = compiled(x, *extras)
    (gradient,) = torch.autograd.grad(value, x)
    return value, gradient


def _value_and_grad(loss, y, x, sample_weight=None, *, dtype="float32", jit=False):
    """Value and gradient of a scalar loss with respect to `x`, as float64 NumPy.

    `x` is rounded to `dtype` first. Labels and weights enter a compiled function as
    arguments, not as constants.
    """
    backend = keras.backend.backend()
    compute = {
        "tensorflow": _tensorflow_value_and_grad,
        "jax": _jax_value_and_grad,
        "torch": _torch_value_and_grad,
    }[backend]
    x = keras.ops.cast(_tensor(np.asarray(x, "float32")), dtype)
    extras = [_tensor(np.asarray(y))]
    if sample_weight is not None:
        extras.append(_tensor(np.asarray(sample_weight, "float32")))

    def function(x, y, w=None):
        return loss(y, x, sample_weight=w)

    value, gradient = compute(function, x, extras, jit)
    to_numpy = keras.ops.convert_to_numpy
    gradient = to_numpy(keras.ops.cast(gradient, "float32")).astype("float64")
    return float(to_numpy(value)), gradient


@pytest.fixture(scope="session")
def value_and_grad():
    return _value_and_grad


@pytest.fixture
def pml():
    """pytorch-metric-learning, the peer of the losses."""
    return pytest.importorskip("pytorch_metric_learning")


@pytest.fixture
def torch_compiler():
    """Skips where `torch.compile` cannot work: it calls a C++ compiler."""
    if keras.backend.backend() != "torch":
        pytest.skip("torch only: the other backends compile in every run")
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    if " " in torch.__file__:
        pytest.skip("torch.compile hands its own path to the compiler unquoted")


_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright."""

    def need(reason):
        if os.environ.get("KERAS_TCM_REQUIRE_BROWSER") == "1":
            pytest.fail(f"KERAS_TCM_REQUIRE_BROWSER=1, but {reason}")
        pytest.skip(reason)

    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        need("playwright is not installed")
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        need(f"there is none of {', '.join(_BROWSERS)} on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=_BROWSER_ARGUMENTS
        )
        yield browser
        browser.close()
