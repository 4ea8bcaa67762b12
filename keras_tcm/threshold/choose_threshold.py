"""A threshold that keeps its promise on classes that nobody has seen."""

from typing import Any, Literal

import numpy as np

from keras_tcm.evaluation import (
    DISTANCES,
    ClassCounts,
    ClassErrors,
    ScoreNormalization,
    UndefinedError,
    count_classes,
    measure_of,
    to_steps,
)
from keras_tcm.threshold.distance_sketch import MAX_SAMPLES, DistanceSketch, spread
from keras_tcm.threshold.fingerprints import Canaries, data_digest, fingerprint
from keras_tcm.threshold.promises import (
    classes_needed,
    classes_needed_by_each,
    kept_for_classes,
    kept_for_population,
)
from keras_tcm.threshold.score_calibration import ScoreCalibration
from keras_tcm.threshold.threshold import Threshold
from keras_tcm.validation import check_choice, check_number

_QUANTILES = (0.05, 0.5, 0.95, 1.0)
# Thresholds of the curve that is kept, by FAR and by FRR.
_CURVE_POINTS = 48


def choose_threshold(
    embeddings: Any,
    labels: Any,
    far: float | None = None,
    *,
    frr: float | None = None,
    confidence: float = 0.95,
    promise: Literal["population", "class"] = "population",
    class_share: float = 0.95,
    model: Any = None,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    gallery_includes_queries: bool = False,
    distance: Literal["cosine", "euclidean"] = "cosine",
    relevance: Any = None,
    score_normalization: ScoreNormalization | None = None,
    block_size: int | None = None,
    client: Any = None,
    device: Literal["auto", "host", "backend"] = "auto",
    verbose: bool | Literal["auto"] = "auto",
) -> Threshold:
    """Choose a distance threshold that meets its target on classes not seen.

    The threshold whose FAR on some classes is the target exceeds it on others about
    half of the time. This one is stricter, by as much as the number of classes and the
    differences between them ask for. What is promised:

    - `promise="population"`: over pairs of other classes of the same kind, the FAR is
      at most `far` in at least `confidence` of the cases. It is the loosest threshold
      whose upper limit over classes is at most the target.
    - `promise="class"`: at least `class_share` of other classes have a FAR of their own
      of at most `far`, in at least `confidence` of the cases. It is an order statistic
      of the thresholds of the classes. With a gallery, that is exact for classes that
      are exchangeable, and takes `log(1 - confidence) / log(class_share)` of them, 59
      by default; without one, it is stricter, because the classes that each is compared
      with are a sample too, and takes 72.

    "Of the same kind" means drawn as these were: other people from the same cameras,
    not other cameras. With `frr`, the same holds for the FRR of the strictest threshold
    that keeps it; with both, for each of them alone, at the loosest threshold that
    keeps `far`. With a gallery, the promise is for other classes of queries against
    other classes of gallery samples; that for each class is against this gallery.

    The limit is that of a score test with the jackknife's variance over classes, which
    takes the standard error to grow with the rate: see
    `keras_tcm.evaluation.ClassErrors`. It rests on a normal approximation: how often
    the promise is kept in simulations, and on real embeddings, and what that costs in
    FAR, stands in `docs/choosing_a_threshold.md`. The guarantee without any
    approximation, conformal risk control, takes some `4 / far` classes.

    Args:
        embeddings: Vectors of any norm, shape `(n, d)`, of a model that has not been
            trained on these classes: as for `keras_tcm.evaluate_embeddings`. Or shape
            `(n, 2, d)`, of two towers: the queries, and gallery items of the same
            labels.
        labels: One label per sample, shape `(n,)`.
        far: Promised false acceptance rate, in (0, 1). Defaults to `None`: `frr` is
            given.
        frr: Promised false rejection rate, in (0, 1). Defaults to `None`.
        confidence: Probability with which a promise is kept, in (0.5, 1). Defaults to
            0.95.
        promise: `"population"` or `"class"`, see above. Defaults to `"population"`.
        class_share: Share of other classes that keep the target, in (0, 1), with
            `promise="class"`. Defaults to 0.95.
        model: The Keras model of the embeddings, whose weights are given a fingerprint.
            Defaults to `None`: no fingerprint.
        gallery_embeddings: Vectors to compare with, as for `evaluate_embeddings`, like
            the rest. Defaults to `None`: every sample is compared with all others.
        gallery_labels: Labels of the gallery.
        gallery_includes_queries: Whether the samples are in the gallery too. Defaults
            to `False`.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.
        relevance: A `HierarchyLevel`, or `None` for equal labels. Defaults to `None`.
        score_normalization: A `keras_tcm.ScoreNormalization`, as for
            `evaluate_embeddings`; the threshold then is a distance of its scores, and
            its methods and a `Matcher` must be given the same. Defaults to `None`.
        block_size: Side of the blocks of pairs. Defaults to `None`: up to 2,048, or
            what the memory of a GPU bears.
        client: A `dask.distributed.Client` whose workers compare the samples. Defaults
            to `None`: this process.
        device: Where pairs are counted, as for `evaluate_embeddings`. Defaults to
            `"auto"`.
        verbose: Whether to show a progress bar; `"auto"` shows it on long runs.

    Returns:
        A `Threshold`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If shapes do not match, or an argument is out of range. If the
            classes are too few for the promise, a
            `keras_tcm.evaluation.UndefinedError`, which says how many it needs, and
            what these can bear.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(np.arange(200), 8)
    >>> x = rng.normal(size=(200, 16))[labels] + 0.5 * rng.normal(size=(1600, 16))
    >>> threshold = keras_tcm.choose_threshold(x, labels, far=0.01)
    >>> threshold.far < threshold.far_interval[1] and threshold.far < 0.01
    True

    Reference:
        - [Fogliato, Patil and Perona, 2024](https://arxiv.org/abs/2306.01198)
        - [Angelopoulos et al., 2024](https://arxiv.org/abs/2208.02814) (conformal risk
          control)
    """
    far, frr = _check_targets(far, frr)
    confidence = check_number(
        "confidence", confidence, 0.5, 1, open_low=True, open_high=True
    )
    check_choice("promise", promise, ("population", "class"))
    class_share = check_number(
        "class_share", class_share, 0, 1, open_low=True, open_high=True
    )
    model_fingerprint = None if model is None else fingerprint(model)
    counts = count_classes(
        embeddings,
        labels,
        far=far,
        frr=frr,
        gallery_embeddings=gallery_embeddings,
        gallery_labels=gallery_labels,
        gallery_includes_queries=gallery_includes_queries,
        distance=distance,
        relevance=relevance,
        score_normalization=score_normalization,
        block_size=block_size,
        client=client,
        device=device,
        verbose=verbose,
    )
    share = class_share if promise == "class" else None
    place = _choose(counts, far, frr, confidence, share)
    chosen = counts.far.at(place), counts.frr.at(place)
    curve = _curve_places(counts, place)
    curve_far, curve_frr = (x.some(curve) for x in (counts.far, counts.frr))
    measure = measure_of(distance, score_normalization)
    queries = counts.space.queries
    embeddings = queries.vectors.embeddings
    some = spread(queries.size, MAX_SAMPLES)
    steps = to_steps(queries.vectors[some] @ queries.vectors.flipped[some].T)
    intervals = [tuple(x.intervals(confidence)[0].tolist()) for x in chosen]
    open_set_far, open_set_interval = counts.open_set_far(place, confidence)
    quantiles = [
        dict(
            zip(_QUANTILES, np.quantile(x.per_class, _QUANTILES).tolist(), strict=True)
        )
        for x in chosen
    ]
    return Threshold(
        value=float(counts.thresholds[place]),
        distance=measure,
        promise=promise,
        confidence=confidence,
        class_share=share,
        far_target=far,
        frr_target=frr,
        far=float(chosen[0].rates[0]),
        far_interval=intervals[0],
        frr=float(chosen[1].rates[0]),
        frr_interval=intervals[1],
        per_class_far=quantiles[0],
        per_class_frr=quantiles[1],
        open_set_far=open_set_far,
        open_set_far_interval=open_set_interval,
        num_samples=counts.num_samples,
        num_classes=len(counts.classes),
        num_excluded_classes=counts.num_excluded,
        num_unanswerable=counts.open_set.num_queries,
        num_positive_pairs=counts.num_positive_pairs,
        num_negative_pairs=int(counts.far.all_pairs),
        has_gallery=counts.space.has_gallery,
        dimension=counts.space.dimension,
        data_digest=data_digest(embeddings, queries.codes),
        model_fingerprint=model_fingerprint,
        normalization_digest=(
            None if score_normalization is None else score_normalization.digest
        ),
        curve_thresholds=counts.thresholds[curve],
        curve_far=curve_far.rates,
        curve_frr=curve_frr.rates,
        curve_far_intervals=curve_far.intervals(confidence),
        curve_frr_intervals=curve_frr.intervals(confidence),
        calibration=_calibrate(counts.thresholds[curve], measure, curve_far, curve_frr),
        sketch=DistanceSketch.of(steps, queries.codes[some], measure),
        canaries=Canaries.of(embeddings, queries.order),
    )


def _check_targets(far: Any, frr: Any) -> tuple[float | None, float | None]:
    if far is None and frr is None:
        raise ValueError(
            "`far` or `frr` must be given: what is to be promised. "
            "Received: far=None, frr=None"
        )
    far, frr = (
        target
        if target is None
        else check_number(name, target, 0, 1, open_low=True, open_high=True)
        for name, target in (("far", far), ("frr", frr))
    )
    return far, frr


def _choose(
    counts: ClassCounts,
    far: float | None,
    frr: float | None,
    confidence: float,
    class_share: float | None,
) -> int:
    """Place of the threshold that keeps what is promised."""
    kept = {}
    for name, target, errors in (("far", far, counts.far), ("frr", frr, counts.frr)):
        if target is None:
            continue
        if class_share is None:
            kept[name] = kept_for_population(errors, target, confidence)
        else:
            kept[name] = kept_for_classes(errors, target, confidence, class_share)
        if not kept[name].any():
            raise UndefinedError(
                _too_few(name, target, errors, confidence, class_share)
            )
    if far is None:
        return int(np.argmax(kept["frr"]))
    place = int(np.flatnonzero(kept["far"])[-1])
    if frr is not None and not kept["frr"][place]:
        low, high = counts.frr.at(place).intervals(confidence)[0]
        raise UndefinedError(
            "`frr` must be what a threshold that keeps `far` can keep too: there the "
            f"FRR is {counts.frr.rates[place]:.3g}, with an interval of {low:.3g} to "
            f"{high:.3g}. Received: far={far}, frr={frr}"
        )
    return place


def _too_few(
    name: str,
    target: float,
    errors: ClassErrors,
    confidence: float,
    class_share: float | None,
) -> str:
    """Say that there is no threshold, how many classes it takes, and what there is."""
    found, least = errors.num_classes, float(errors.rates.min())
    if least > target and target * errors.all_pairs >= 1:
        return (
            f"`{name}` must be a rate that some threshold has: at distance 0, or "
            f"as far as pairs were counted, it is {least:.3g} (tied or collapsed "
            "embeddings). "
            f"Received: {name}={target}"
        )
    other = ""
    if class_share is not None:
        needed = classes_needed_by_each(errors, confidence, class_share)
        if len(errors.pairs) >= needed:
            return (
                f"`{name}` must be a rate that some threshold keeps for all but few of "
                f"the classes. Received: {name}={target}, which more of the "
                f"{len(errors.pairs)} classes exceed even at the strictest threshold"
            )
        what = f"for {class_share:.0%} of other classes"
        limit = float(errors.upper_limits(confidence).min())
        if limit < 0.5:
            other = f'; with promise="population" these bear {name}={limit:.2g}'
    else:
        needed = classes_needed(errors, target, confidence)
        what = "over other classes"
        limit = float(errors.upper_limits(confidence).min())
        if limit < 0.5:
            other = f"; these bear {name}={limit:.2g}"
    return (
        f"`{name}` must be a rate that so many classes can bear: {target:g} {what}, "
        f"with {confidence:.0%} confidence, takes about {needed:,} classes of this "
        f"kind{other}. Received: {name}={target}, with {found:,} classes"
    )


def _curve_places(counts: ClassCounts, chosen: int) -> np.ndarray:
    """Places of thresholds that are spread evenly over FAR and FRR, and the chosen."""
    far, frr = counts.far.rates, counts.frr.rates
    least = far[far > 0].min(initial=1.0)
    by_far = np.searchsorted(far, np.geomspace(least, far[-1], _CURVE_POINTS))
    by_frr = np.searchsorted(-frr, -np.linspace(frr[0], frr[-1], _CURVE_POINTS))
    places = np.unique([*by_far, *by_frr, chosen, 0, len(far) - 1])
    return places[places < len(far)]


def _calibrate(
    thresholds: np.ndarray, distance: str, far: ClassErrors, frr: ClassErrors
) -> ScoreCalibration:
    """Fit probabilities to the pairs between thresholds, class by class."""
    accepted = far.errors
    negative = np.diff(accepted, axis=1, prepend=0, append=far.pairs[:, None])
    positive = np.diff(
        frr.pairs[:, None] - frr.errors, axis=1, prepend=0, append=frr.pairs[:, None]
    )
    # The least score that there could be is of no use.
    start = 0.0 if distance in DISTANCES else thresholds[0]
    lower = np.concatenate([[start], thresholds[:-1]])
    return ScoreCalibration.fit(
        (lower + thresholds) / 2.0, positive, negative, end=float(thresholds[-1])
    )
