"""Which classes make up each step of an epoch."""

import numpy as np


def balanced_schedule(
    rng: np.random.Generator, num_classes: int, classes_per_step: int, steps: int
) -> np.ndarray:
    """Draw the classes of every step, all of them equally often.

    The schedule is a run of permutations of all classes cut into steps, so each
    class comes up equally often up to one time.

    Args:
        rng: Source of randomness.
        num_classes: Number of classes to draw from.
        classes_per_step: Number of classes in a step, at most `num_classes`.
        steps: Number of steps.

    Returns:
        Integer array `(steps, classes_per_step)`, no class twice in a row.
    """
    total = steps * classes_per_step
    permutations = [rng.permutation(num_classes)]
    while len(permutations) * num_classes < total:
        following = rng.permutation(num_classes)
        # The step on the seam begins with the last `started` classes drawn: what
        # completes it must be others.
        started = len(permutations) * num_classes % classes_per_step
        if started:
            seam = permutations[-1][-started:]
            others = following[~np.isin(following, seam)]
            completing = others[: classes_per_step - started]
            rest = following[~np.isin(following, completing)]
            following = np.concatenate([completing, rest])
        permutations.append(following)
    return np.concatenate(permutations)[:total].reshape(steps, classes_per_step)


def class_shares(weights: np.ndarray, classes_per_step: int) -> np.ndarray:
    """Return how often each class comes up per step in the mean.

    The shares are proportional to the weights, except that a class which would have
    to come up more than once per step has the share 1, and the others divide what
    is left by their weights.

    Args:
        weights: Positive array `(C,)`.
        classes_per_step: Number of classes in a step, at most C.

    Returns:
        Array `(C,)` of shares in [0, 1], of sum `classes_per_step`.
    """
    weights = weights / weights.max()
    shares = classes_per_step * weights / weights.sum()
    # Up to rounding: shares that are 1 in exact arithmetic must become 1 here.
    while (over := (shares > 1 - 1e-9) & (shares != 1)).any():
        shares[over] = 1
        rest = shares != 1
        places = classes_per_step - np.count_nonzero(~rest)
        shares[rest] = places * weights[rest] / weights[rest].sum()
    return shares


def _epoch_counts(
    rng: np.random.Generator, shares: np.ndarray, steps: int
) -> np.ndarray:
    """Round `steps * shares` up or down at random, keeping the means and the sum."""
    counts = np.where(shares == 1, steps, 0)
    rest = rng.permutation(np.flatnonzero(shares != 1))
    places = steps * round(shares.sum()) - counts.sum()
    if places:
        # Systematic sampling: lay the shares end to end and count the marks of a
        # grid of spacing 1, shifted at random, that fall on each.
        ends = np.cumsum(shares[rest])
        ends *= places / ends[-1]
        ends[-1] = places
        counts[rest] = np.diff(np.floor(ends + rng.random()), prepend=0)
    return counts


def weighted_schedule(
    rng: np.random.Generator, shares: np.ndarray, steps: int
) -> np.ndarray:
    """Draw the classes of every step in proportion to their shares.

    Each class comes up `steps * share` times, rounded up or down at random, and in
    any one step with a probability of exactly its share. First the number of times
    is drawn for each class, then the steps one after another, each by systematic
    sampling in random order with probabilities proportional to what is left.

    Args:
        rng: Source of randomness.
        shares: Array `(C,)` as `class_shares` returns it.
        steps: Number of steps.

    Returns:
        Integer array `(steps, classes_per_step)`, no class twice in a row.

    Reference:
        Madow, "On the Theory of Systematic Sampling, II", Annals of Mathematical
        Statistics 20 (1949).
    """
    left = _epoch_counts(rng, shares, steps)
    classes_per_step = left.sum() // steps
    schedule = np.empty((steps, classes_per_step), int)
    for step in range(steps):
        remaining = steps - step
        order = rng.permutation(len(left))
        # In units of 1 / `remaining`, so that all is integer. No class is longer than
        # the spacing of the marks: `left` never exceeds the steps that remain, as a
        # class of that length is hit for sure.
        ends = np.cumsum(left[order])
        marks = rng.integers(remaining) + remaining * np.arange(classes_per_step)
        drawn = order[np.searchsorted(ends, marks, side="right")]
        left[drawn] -= 1
        # A long class is hit by the first and the last mark less often than by others.
        schedule[step] = rng.permutation(drawn)
    return schedule


def earlier_visits(schedule: np.ndarray) -> np.ndarray:
    """Count for each place how often its class has come up before.

    Args:
        schedule: Integer array `(steps, classes_per_step)`.

    Returns:
        Integer array of the same shape.
    """
    order = np.argsort(schedule, axis=None, kind="stable")
    counts = np.bincount(schedule.ravel())
    first = np.repeat(np.cumsum(counts) - counts, counts)
    visits = np.empty(schedule.size, int)
    visits[order] = np.arange(schedule.size) - first
    return visits.reshape(schedule.shape)
