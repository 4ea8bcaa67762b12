"""Evaluation of embeddings over all pairs, or a sample of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from keras_tcm.evaluation._counting.count_pairs import count_pairs
from keras_tcm.evaluation._inputs.pair_space import (
    check_relevance,
    has_single_labels,
    pair_space,
)
from keras_tcm.evaluation._rates import evaluation_of
from keras_tcm.evaluation._walk.device import DEVICES
from keras_tcm.evaluation._walk.plan import ClientExecutor, plan_for
from keras_tcm.evaluation.criteria import make_criteria
from keras_tcm.evaluation.evaluation import Evaluation
from keras_tcm.evaluation.groups import (
    GROUP_PAIRS,
    Group,
    GroupPairs,
    group_inequity,
    measure_groups,
    read_groups,
)
from keras_tcm.evaluation.score_normalization import ScoreNormalization
from keras_tcm.validation import check_choice, check_integer, check_several


def evaluate_embeddings(
    embeddings: Any,
    labels: Any,
    *,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    gallery_includes_queries: bool = False,
    far_range: tuple[float, float] = (0.01, 0.1),
    frr_range: tuple[float, float] | None = None,
    calibration_range: tuple[float, float] | None = None,
    beta: float = 1.0,
    epsilon: float = 0.1,
    distance: Literal["cosine", "euclidean"] = "cosine",
    num_thresholds: int = 101,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    far_targets: Sequence[float] = (0.001, 0.01, 0.1),
    at_thresholds: Sequence[float] = (),
    relevance: Any = None,
    groups: Any = None,
    group_pairs: GroupPairs = "both_ends",
    max_pairs: int | None = None,
    seed: int = 0,
    score_normalization: ScoreNormalization | None = None,
    block_size: int | None = None,
    client: Any = None,
    device: Literal["auto", "host", "backend"] = "auto",
    verbose: bool | Literal["auto"] = "auto",
) -> Evaluation:
    """Measure retrieval and threshold consistency over all pairs of samples.

    A pair is two different samples: positive if their labels are equal, or if
    `relevance` says so, and negative otherwise. It is accepted at threshold `d` when
    its distance is at most `d`. For each class with a positive and a negative pair,

    ```
    sensitivity(d) = share of the pairs inside the class that are accepted
    specificity(d) = share of the pairs with one end in the class that are rejected
    utility(d)     = (1 + beta^2) * specificity * sensitivity
                     / (beta^2 * specificity + sensitivity)
    ```

    OPIS is the variance of the utility over classes, averaged over a calibration
    range of distances; epsilon-OPIS the squared gap in utility between the worst
    `epsilon` share of the classes and the others, averaged likewise. Both are 0 when
    one threshold serves all classes equally; lower is better.

    The paper gives OPIS and epsilon-OPIS in words. The default range (FAR 1% to 10%,
    101 thresholds, trapezoid rule), the harmonic-mean utility and the exact form of
    epsilon-OPIS are this package's reading of it; keep that in mind when comparing
    with published numbers.

    Similarities are computed in float32: cosine distances closer than 1e-6 count as
    equal. Every pair is counted; from some ten million pairs on, the classes' FARs
    are read off fine bins, with a standard error below 4e-5, but at `at_thresholds`
    they too are exact. A threshold accepts a distance equal to it, and a negative as
    near as a positive ranks before it.

    Which pairs count for a class depends on `relevance`; global rates count every pair
    once.

    - `None`: classes are the labels, and the pairs as above.
    - `HierarchyLevel(level)`: labels of shape `(n, levels)`, integers or strings; the
      same with the rows down to `level` as labels (tuples, below level 0).
    - `SharedLabel()`: multi-hot labels of shape `(n, num_labels)`; classes are the
      columns in which a sample (query) has a label. Sensitivity is over the pairs with
      both ends in the class, so a pair that shares two labels counts for both;
      specificity over the negative pairs with one end in it.
    - `ClassRelevance(matrix)`: integer labels of shape `(n,)`; classes are the labels.
      Sensitivity is over the positive pairs with an end in the class, specificity over
      such negative pairs; a pair with both ends in it counts from both. The matrix must
      be symmetric, unless there is a gallery: its rows are the classes of the queries.

    Functions make no classes; `metrics.RecallAtK` takes them nevertheless.

    A query without a positive pair is unanswerable: recall and mAP@R leave it out, and
    a search that finds anything for it is wrong. `Evaluation.num_unanswerable` counts
    these queries, and `open_set_far` of each operating point the share of them for
    which a gallery sample is accepted: the false positive identification rate of an
    open-set search. Where there are any, they are compared once more with the gallery.

    Above `max_pairs` pairs, a random sample of `max_pairs / m` of the `m` candidates
    (at least 32) is compared with every query for the FARs, and as many queries with
    every candidate for R@k and mAP@R; with a gallery each of the two gets half of the
    pairs. Positive pairs are all counted nevertheless, and unanswerable queries are
    compared with the whole gallery: all of them, or as many at random as make
    `max_pairs` pairs. The estimates of OPIS and
    epsilon-OPIS are corrected for their bias (and so may fall below 0), and the
    result has standard errors, which allow for pairs that share a sample. That of
    epsilon-OPIS tends to be too small, because it takes the worst classes for known.

    Args:
        embeddings: Vectors of any norm, shape `(n, d)`: array, backend tensor,
            `numpy.memmap`, or a list of paths of `.npy` files, whose rows follow each
            other (both read in chunks). L2-normalised inside; a zero vector has cosine
            similarity 0 to all. Or the output of two towers, shape `(n, 2, d)`: of
            each sample a query, `embeddings[:, 0]`, and a gallery item of the same
            label, `embeddings[:, 1]`. These are compared as if the latter were given as
            `gallery_embeddings` with `gallery_labels=labels`: all (query, item) pairs
            count, and that of the same sample is a positive one.
        labels: One label per sample, shape `(n,)`; integers, strings or any other
            hashable objects. With `relevance`: see above. With a list of files as
            `embeddings`, also a list of `.npy` files, one for each of those.
        gallery_embeddings: Vectors to compare with, shape `(m, d)`. Defaults to
            `None`: every sample is compared with all others. With a gallery, pairs
            are (query, gallery) pairs, which count for the classes of the query.
            Passing the same object as `embeddings` means no gallery. Not with
            embeddings of two towers.
        gallery_labels: Labels of the gallery, shape `(m,)`, or as wide as `labels`.
        gallery_includes_queries: Whether each query is itself one of the gallery's
            samples: an equal vector, bit for bit, with an equal label. It then never
            pairs with itself; where several are equal, they pair with each other. A
            gallery of the queries and no others means no gallery. Defaults to
            `False`: it pairs with all, and a warning tells how many queries find
            themselves.
        far_range: Global false acceptance rates that bound the calibration range,
            in (0, 1]. Defaults to `(0.01, 0.1)`.
        frr_range: Global false rejection rates that bound it instead, in [0, 1].
        calibration_range: Distances that bound it instead, in [0, 2] unless scores are
            normalised.
        beta: Weight of the sensitivity in the utility, above 0; above 1 favours it.
            Defaults to 1.0.
        epsilon: Share of classes that count as worst, in (0, 1). Defaults to 0.1.
        distance: `"cosine"` (`1 - s`) or `"euclidean"` (`sqrt(2 - 2 s)`, between the
            unit vectors). Defaults to `"cosine"`.
        num_thresholds: Evenly spaced distances in the range, at least 2. Defaults to
            101.
        recall_at: Values of k for R@k, at least 1. R@k is the share of queries with
            a positive among their k nearest (hit rate). Queries without any positive
            are left out, here and in mAP@R.
        far_targets: Global false acceptance rates for which to give the threshold,
            in (0, 1].
        at_thresholds: Distances at which to count FAR and FRR exactly, in all and of
            each class: what does a threshold do that was chosen elsewhere? In any
            order; `Evaluation.rates_at` tells the rates. With `max_pairs` the FARs are
            those of the sample, with a standard error.
        relevance: What makes a pair positive (see above): a
            `keras_tcm.relevance.Relevance`. Defaults to `None`: equal labels.
        groups: A label per sample (query) beside the class, shape `(n,)`, of any
            hashable kind: customers, devices, demographic groups. All samples of a
            class must have the same. `Evaluation.groups` then tells FAR, FRR, utility
            and OPIS of each at the common thresholds, with intervals over its classes.
            Not with `max_pairs`, a `SharedLabel` or a `ClassRelevance`. Defaults to
            `None`: no groups.
        group_pairs: Which negative pairs are those of a group. `"both_ends"`: those
            with both ends in it, as in a search among its own samples, not with a
            gallery; the pairs inside each group are compared once more, no more of them
            than there are in all, and each group takes some hundredths of a second
            besides. `"one_end"`: those with an end in a class of it that
            has a positive pair, counted from each such end. Defaults to
            `"both_ends"`.
        max_pairs: Number of pairs to compare, at most; where there are more, the
            result is estimated from a sample (see above). Not with a `SharedLabel` or
            a `ClassRelevance`. Defaults to `None`: all.
        seed: Seed of the sample. Defaults to 0.
        score_normalization: A `keras_tcm.ScoreNormalization`, whose scores are compared
            in place of the cosine similarities; `distance` must be `"cosine"`. All
            distances are 1 less a score then, and `Evaluation.distance` is its method.
            Defaults to `None`.
        block_size: Side of the square blocks of pairs that are held at a time.
            Defaults to `None`: up to 2,048, or what the memory of a GPU bears.
        client: A `dask.distributed.Client` (or a `concurrent.futures.Executor`) whose
            workers compare the samples, with the same result. They read a
            `numpy.memmap` and lists of files themselves, under the same names; of
            anything else they are sent the rows that they compare. Not with a
            `SharedLabel` or a `ClassRelevance`. Defaults to `None`: this process, with
            all of its devices.
        device: Where pairs are counted. `"backend"`: on the device that compares them,
            so that only counts leave it. `"host"`: in main memory, by Numba or NumPy.
            The counts are the same. With a `SharedLabel` or a `ClassRelevance`, and for
            the positive pairs, always on the host. Defaults to `"auto"`: on the backend
            where its device is a GPU.
        verbose: Whether to show a progress bar; `"auto"` shows it on long runs.

    Returns:
        An `Evaluation`.

    Raises:
        TypeError: If an argument has the wrong type.
        FileNotFoundError: If a file of the embeddings or labels does not exist.
        ValueError: If shapes do not match, an argument is out of range, or OPIS is
            not defined: fewer than two classes with a positive and a negative pair,
            NaN or infinite embeddings, a `far_range` that the negative pairs cannot
            resolve, or a calibration range of zero width. The latter group are
            `keras_tcm.evaluation.UndefinedError`, a `ValueError`.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(np.arange(20), 10)
    >>> embeddings = rng.normal(size=(20, 32))[labels] + rng.normal(size=(200, 32))
    >>> result = keras_tcm.evaluate_embeddings(embeddings, labels)
    >>> result.operating_points[1].far <= 0.01
    True

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
        - [Musgrave et al., ECCV 2020](https://arxiv.org/abs/2003.08505) (mAP@R)
    """
    criteria = make_criteria(
        far_range,
        frr_range,
        calibration_range,
        beta,
        epsilon,
        distance,
        num_thresholds,
        far_targets,
        at_thresholds,
        score_normalization,
    )
    recall_at = _check_recall_at(recall_at)
    relevance = check_relevance(relevance)
    if max_pairs is not None:
        max_pairs = check_integer("max_pairs", max_pairs, 1)
        if not has_single_labels(relevance):
            raise ValueError(
                "`max_pairs` must be None with a SharedLabel or ClassRelevance, under "
                f"which all pairs are compared. Received: max_pairs={max_pairs}"
            )
    seed = check_integer("seed", seed, 0)
    if block_size is not None:
        block_size = check_integer("block_size", block_size, 1)
    executor = None
    if client is not None:
        executor = ClientExecutor(client)
        if not has_single_labels(relevance):
            raise ValueError(
                "`client` must be None with a SharedLabel or ClassRelevance, under "
                f"which one process compares all pairs. Received: client={client!r}"
            )
    check_choice("device", device, DEVICES)
    check_choice("verbose", verbose, (True, False, "auto"))
    check_choice("group_pairs", group_pairs, GROUP_PAIRS)
    if groups is not None and not has_single_labels(relevance):
        raise ValueError(
            "`groups` must be None with a SharedLabel or ClassRelevance, under which "
            f"classes share samples. Received: relevance={relevance!r}"
        )
    if groups is not None and max_pairs is not None:
        raise ValueError(
            "`groups` must be None with `max_pairs`, a sample of which has few pairs "
            f"of each group. Received: max_pairs={max_pairs}"
        )

    space = pair_space(
        embeddings,
        labels,
        gallery_embeddings,
        gallery_labels,
        relevance,
        gallery_includes_queries,
        score_normalization,
    )
    class_groups = None
    if groups is not None:
        if space.has_gallery and group_pairs == "both_ends":
            raise ValueError(
                '`group_pairs` must be "one_end" with a gallery, whose samples have no '
                'groups. Received: group_pairs="both_ends"'
            )
        class_groups = read_groups(groups, group_pairs, space)
    plan = plan_for(
        space, recall_at, max_pairs, seed, block_size, executor, device, verbose
    )
    counts = count_pairs(space, plan, criteria)
    classes_per_pair = space.times_met if space.relevance is None else None
    result = evaluation_of(counts, criteria, recall_at, classes_per_pair)
    if class_groups is None:
        return result
    thresholds = [
        point.threshold for point in (*result.operating_points, *result.at_thresholds)
    ]
    measured = measure_groups(class_groups, space, plan, criteria, counts, thresholds)
    return _with_groups(result, measured, group_pairs)


def _with_groups(
    result: Evaluation, groups: tuple[Group, ...], pairs: GroupPairs
) -> Evaluation:
    points = [
        dataclasses.replace(point, group_inequity=group_inequity(groups, place))
        for place, point in enumerate((*result.operating_points, *result.at_thresholds))
    ]
    num_targets = len(result.operating_points)
    return dataclasses.replace(
        result,
        operating_points=tuple(points[:num_targets]),
        at_thresholds=tuple(points[num_targets:]),
        groups=groups,
        group_pairs=pairs,
    )


def _check_recall_at(recall_at: Any) -> tuple[int, ...]:
    values = check_several("recall_at", recall_at, "integers")
    if not values:
        raise ValueError("`recall_at` must not be empty. Received: recall_at=()")
    return tuple(check_integer("recall_at", k, 1) for k in values)
