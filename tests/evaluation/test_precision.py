"""Settings of the whole process are held while they are needed, and then put back."""

import contextlib
import threading

import keras
import numpy as np
import pytest

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation.precision import ProcessSetting, full_precision

BACKEND = keras.backend.backend()


class Precision:
    """The precision of products on the backend: `full`, or one that rounds."""

    full, rounded = {
        "jax": ("highest", "bfloat16"),
        "tensorflow": (False, True),
        "torch": ("highest", "high"),
    }[BACKEND]

    def get(self):
        if BACKEND == "jax":
            import jax

            return jax.config.jax_default_matmul_precision
        if BACKEND == "tensorflow":
            import tensorflow as tf

            return tf.config.experimental.tensor_float_32_execution_enabled()
        import torch

        return torch.get_float32_matmul_precision()

    def set(self, value):
        if BACKEND == "jax":
            import jax

            jax.config.update("jax_default_matmul_precision", value)
        elif BACKEND == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_tensor_float_32_execution(value)
        else:
            import torch

            torch.set_float32_matmul_precision(value)


@pytest.fixture
def precision():
    setting = Precision()
    before = setting.get()
    setting.set(setting.rounded)
    yield setting
    setting.set(before)


def interleave(block, look):
    """The first of two threads leaves its block while the second is inside."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))
    seen = []

    def first():
        with block():
            first_in.set()
            assert second_in.wait(10)
        first_out.set()

    def second():
        assert first_in.wait(10)
        with block():
            second_in.set()
            assert first_out.wait(10)
            seen.append(look())

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (found,) = seen
    return found


def test_threads_that_overlap(precision):
    assert interleave(full_precision, precision.get) == precision.full
    assert precision.get() == precision.rounded


def test_blocks_inside_each_other(precision):
    with full_precision():
        with full_precision():
            assert precision.get() == precision.full
        assert precision.get() == precision.full
    assert precision.get() == precision.rounded


def test_a_block_that_fails(precision):
    with pytest.raises(ZeroDivisionError), full_precision():
        raise ZeroDivisionError
    assert precision.get() == precision.rounded


def test_evaluations_in_threads(precision):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 6)
    x = rng.normal(size=(48, 8)) + rng.normal(size=(8, 8))[y]
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(evaluate_embeddings(x, y, verbose=False).opis)
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert precision.get() == precision.rounded


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch")
@pytest.mark.parametrize("library", ["cuda", "mkldnn"])
def test_precision_of_a_single_library(library):
    """`torch.get_float32_matmul_precision` cannot express it, and raises."""
    import torch

    backends = torch.backends.cuda, torch.backends.mkldnn
    if not hasattr(backends[1], "matmul"):
        pytest.skip("PyTorch before 2.9 has one precision for all libraries")

    def get():
        return [backend.matmul.fp32_precision for backend in backends]

    before = get()
    getattr(torch.backends, library).matmul.fp32_precision = "tf32"
    chosen = get()
    try:
        with full_precision():
            assert get() == ["ieee", "ieee"]
        assert get() == chosen != before
    finally:
        torch.set_float32_matmul_precision("highest")


class Setting:
    """Some setting, and what holds it at 0."""

    def __init__(self, value):
        self.value = value
        self.held = ProcessSetting(
            lambda: self.value, lambda value: self.set(value), lambda: self.set(0)
        )

    def set(self, value):
        self.value = value


class TestProcessSetting:
    def test_what_somebody_else_sets_meanwhile_stays(self):
        setting = Setting(1)
        with setting.held:
            setting.set(2)
        assert setting.value == 2
        with setting.held:
            assert setting.value == 0
        assert setting.value == 2

    def test_who_comes_after_a_change_has_the_value_too(self):
        setting = Setting(1)
        with setting.held:
            setting.set(2)
            with setting.held:
                assert setting.value == 0
            assert setting.value == 0
        assert setting.value == 2

    def test_many_threads(self):
        setting = Setting(1)
        wrong = []

        def enter_often(seed):
            rng = np.random.default_rng(seed)
            for _ in range(200):
                with contextlib.ExitStack() as stack:
                    for _ in range(rng.integers(1, 4)):
                        stack.enter_context(setting.held)
                    if setting.value != 0:
                        wrong.append(setting.value)

        threads = [threading.Thread(target=enter_often, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert setting.value == 1

    def test_dask(self):
        dask = pytest.importorskip("dask")
        pytest.importorskip("distributed")
        from keras_tcm.evaluation._walk import plan

        def get():
            return dask.config.get("distributed.admin.large-graph-warning-threshold")

        before = get()
        assert interleave(lambda: plan._LARGE_GRAPHS, get) == "1 TiB"
        assert get() == before != "1 TiB"
