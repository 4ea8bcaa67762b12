"""How often the intervals of `compare_embeddings` hold the expected change.

Draws test sets from one population of classes, whose centres and widths differ, and
embeds them by two models. The mean change over sets stands for the expected one.

    python benchmarks/interval_coverage.py --classes 20 60 100 200 --sets 300
"""

import argparse

import numpy as np

from keras_tcm import compare_embeddings

PER_CLASS = 8
DIMENSION = 16


def draw(
    num_classes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the embeddings of both models, and the labels."""
    centers = rng.normal(size=(num_classes, DIMENSION))
    widths = np.exp(rng.normal(-0.2, 0.35, size=num_classes))[:, None, None]
    noise = rng.normal(size=(num_classes, PER_CLASS, DIMENSION))
    first = centers[:, None] + widths * noise
    # The second model sees about the same, and its classes differ less in width.
    centers = centers + 0.3 * rng.normal(size=centers.shape)
    noise = 0.8 * noise + 0.6 * rng.normal(size=noise.shape)
    second = centers[:, None] + 0.85 * np.sqrt(widths) * noise
    labels = np.repeat(np.arange(num_classes), PER_CLASS)
    return first.reshape(-1, DIMENSION), second.reshape(-1, DIMENSION), labels


def main() -> None:
    """Print one line per number of classes, measure and kind of change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[20, 60, 100, 200])
    parser.add_argument("--sets", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    for num_classes in args.classes:
        changes = []
        for number in range(args.sets):
            rng = np.random.default_rng([num_classes, number])
            result = compare_embeddings(
                *draw(num_classes, rng), num_resamples=args.resamples, seed=number
            )
            changes.append(result.changes)
        for name in changes[0]:
            for kind in "difference", "relative":
                estimates = [getattr(change[name], kind) for change in changes]
                values = np.array([estimate.value for estimate in estimates])
                expected = values.mean()
                if kind == "relative":
                    expected = np.expm1(np.log1p(values).mean())
                intervals = [estimate.interval for estimate in estimates]
                held = np.mean([low <= expected <= high for low, high in intervals])
                print(
                    f"{num_classes} classes, {name}, {kind}: {held:.3f} of "
                    f"{len(intervals)} intervals hold {expected:.4g}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
