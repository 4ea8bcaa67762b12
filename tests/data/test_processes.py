"""Several processes that train together, each with its own batches."""

import numpy as np
import pytest
from sampler_helpers import epoch_of, indexed_sampler

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(12), 5))


def process(process_id, num_processes=3, **options):
    return indexed_sampler(
        LABELS,
        2,
        2,
        seed=4,
        num_processes=num_processes,
        process_id=process_id,
        **options,
    )


OPTIONS = pytest.mark.parametrize(
    "options",
    [{}, {"class_weights": np.arange(1, 13)}, {"steps_per_epoch": 11}],
    ids=["plain", "weighted", "long"],
)


@OPTIONS
def test_a_step_is_one_balanced_batch(options):
    """Different classes in each process, the same number of samples of each."""
    samplers = [process(rank, **options) for rank in range(3)]
    for _ in range(2):
        lengths = {len(sampler) for sampler in samplers}
        assert lengths == {options.get("steps_per_epoch", len(LABELS) // 12)}
        for batches in zip(*map(epoch_of, samplers), strict=True):
            x = np.concatenate([x for x, _ in batches])
            y = np.concatenate([y for _, y in batches])
            assert len(set(x)) == 12
            np.testing.assert_array_equal(y, LABELS[x])
            counts = np.unique(y, return_counts=True)[1]
            np.testing.assert_array_equal(counts, [2] * 6)
        for sampler in samplers:
            sampler.on_epoch_end()


@OPTIONS
def test_together_they_are_a_single_process_with_larger_batches(options):
    samplers = [process(rank, **options) for rank in range(3)]
    whole = indexed_sampler(LABELS, 6, 2, seed=4, **options)
    for _ in range(2):
        assert len(whole) == len(samplers[0])
        for index in range(len(whole)):
            np.testing.assert_array_equal(
                np.concatenate([sampler.indices(index) for sampler in samplers]),
                whole.indices(index),
            )
        for sampler in [whole, *samplers]:
            sampler.on_epoch_end()


def test_processes_augment_differently():
    def noise(x, rng):
        return rng.random(len(x))

    drawn = [
        process(rank, augment=noise)[index][0] for rank in range(3) for index in (0, 1)
    ]
    assert len(np.unique(drawn)) == 6 * 4
