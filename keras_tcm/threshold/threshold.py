"""The threshold that is shipped."""

import dataclasses
import math
import os
from typing import Any, Literal, Self

import numpy as np

from keras_tcm import artefacts
from keras_tcm.evaluation import (
    DISTANCES,
    STEPS_PER_UNIT,
    STRETCHES,
    ScoreNormalization,
    accepted_steps,
    check_embeddings,
    count_classes,
    distance_range,
    from_cosine,
    measure_of,
    normalize,
    to_cosine,
    to_steps,
)
from keras_tcm.labels import label_array
from keras_tcm.threshold.checks import (
    ThresholdCheck,
    UnlabelledCheck,
    open_set_line,
    rate_with_interval,
)
from keras_tcm.threshold.distance_sketch import (
    MAX_SAMPLES,
    MIN_SAMPLES,
    DistanceSketch,
    spread,
)
from keras_tcm.threshold.fingerprints import Canaries, fingerprint
from keras_tcm.threshold.promises import BROKEN, HOLDS, UNKNOWN, verdict
from keras_tcm.threshold.score_calibration import ScoreCalibration
from keras_tcm.validation import check_choice, check_integer, check_number

# Of what `to_dict` returns: another number where its fields, or their meaning, change.
_HEADER = {"format": "keras_tcm.Threshold", "version": 3}
# What version 2 did not know, and is `None` in what was read of it.
_NEW = ("num_unanswerable", "open_set_far", "open_set_far_interval")
# Distances below this p-value have moved.
_MOVED = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Threshold:
    """A distance up to which pairs are accepted, what it promises and what it costs.

    `choose_threshold` makes one. It is plain data: `save` writes JSON, which any
    language reads, and `load` runs nothing.

    Rates and intervals are those of the data that it was chosen on; the intervals say
    what to expect for other classes of the same kind.

    Attributes:
        value: The distance, of the measure `distance`.
        distance: `"cosine"`, `"euclidean"`, or the method of the score normalisation.
        promise: `"population"` or `"class"`: see `choose_threshold`.
        confidence: Probability that the promise is kept, and that an interval holds.
        class_share: With `promise="class"`, the share of other classes that keep the
            target; otherwise `None`.
        far_target: Promised FAR, or `None`.
        frr_target: Promised FRR, or `None`.
        far: False acceptance rate.
        far_interval: What it is for other classes.
        frr: False rejection rate.
        frr_interval: What it is for other classes.
        open_set_far: Share of the samples (queries) without a positive that it accepts
            with any gallery sample: see `keras_tcm.evaluation.OperatingPoint`. `None`
            if there were none.
        open_set_far_interval: What it is for other classes of such queries against the
            same gallery. `None` if they were of fewer than three classes.
        per_class_far: Quantiles of the classes' FAR, by quantile: 0.05, 0.5, 0.95, 1.
        per_class_frr: The same of their FRR.
        num_samples: Samples (queries) that it was chosen on.
        num_classes: Classes with a positive and a negative pair.
        num_excluded_classes: Classes without.
        num_unanswerable: Samples (queries) without a positive pair. `None` in a file of
            an earlier version, which did not count them.
        num_positive_pairs: Positive pairs.
        num_negative_pairs: Negative pairs.
        has_gallery: Whether it was chosen on pairs of a query and a gallery sample.
        dimension: Length of the embeddings.
        data_digest: Digest of the unit vectors and their classes.
        model_fingerprint: Digest of the model's weights, or `None`.
        normalization_digest: Digest of the score normalisation that it was chosen with,
            or `None`.
        curve_thresholds: Distances, increasing, shape `(T,)`.
        curve_far: FAR at each of them.
        curve_frr: FRR at each of them.
        curve_far_intervals: Intervals of the FAR, shape `(T, 2)`.
        curve_frr_intervals: Intervals of the FRR, likewise.
        calibration: From distances to likelihood ratios.
        sketch: How far the samples lay apart.
        canaries: A few samples and their embeddings.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(np.arange(200), 8)
    >>> x = rng.normal(size=(200, 16))[labels] + 0.5 * rng.normal(size=(1600, 16))
    >>> threshold = keras_tcm.choose_threshold(x, labels, far=0.01)
    >>> bool(threshold.accepts(x[0], x[1]))
    True
    >>> threshold.save(path)
    >>> keras_tcm.Threshold.load(path).value == threshold.value
    True
    """

    value: float
    distance: str
    promise: Literal["population", "class"]
    confidence: float
    class_share: float | None
    far_target: float | None
    frr_target: float | None
    far: float
    far_interval: tuple[float, float]
    frr: float
    frr_interval: tuple[float, float]
    open_set_far: float | None
    open_set_far_interval: tuple[float, float] | None
    per_class_far: dict[float, float]
    per_class_frr: dict[float, float]
    num_samples: int
    num_classes: int
    num_excluded_classes: int
    num_unanswerable: int | None
    num_positive_pairs: int
    num_negative_pairs: int
    has_gallery: bool
    dimension: int
    data_digest: str
    model_fingerprint: str | None
    normalization_digest: str | None
    curve_thresholds: np.ndarray
    curve_far: np.ndarray
    curve_frr: np.ndarray
    curve_far_intervals: np.ndarray
    curve_frr_intervals: np.ndarray
    calibration: ScoreCalibration
    sketch: DistanceSketch
    canaries: Canaries

    @property
    def similarity(self) -> float:
        """What pairs are accepted from on, for other engines: the cosine similarity.

        With a score normalisation, the inner product of what it transforms.
        """
        if self.distance in DISTANCES:
            return float(1.0 - to_cosine(self.value, self.distance))
        return 1.0 - self.value

    # ------------------------------------------------------------------------- pairs

    def distances(
        self, a: Any, b: Any, score_normalization: ScoreNormalization | None = None
    ) -> np.ndarray:
        """Distances between embeddings, pair by pair.

        Args:
            a: One embedding, shape `(d,)`, or several, shape `(n, d)`; of any norm.
            b: The same, or one for all.
            score_normalization: What the threshold was chosen with, if anything.

        Returns:
            Distances of the measure of the threshold, shape `()` or `(n,)`.

        Raises:
            ValueError: If they have another dimension than the embeddings that the
                threshold was chosen on, or are not finite; or if the threshold was
                chosen with another score normalisation.
        """
        steps = self._steps(a, b, score_normalization)
        return from_cosine(steps / STEPS_PER_UNIT, self.distance)

    def accepts(
        self, a: Any, b: Any, score_normalization: ScoreNormalization | None = None
    ) -> np.ndarray:
        """Whether pairs of embeddings are accepted as of one class.

        Args:
            a: One embedding, shape `(d,)`, or several, shape `(n, d)`; of any norm.
            b: The same, or one for all.
            score_normalization: What the threshold was chosen with, if anything.

        Returns:
            Booleans of shape `()` or `(n,)`.

        Raises:
            ValueError: As `distances` does.
        """
        steps = self._steps(a, b, score_normalization)
        return steps <= accepted_steps(to_cosine(self.value, self.distance))

    def probability(self, distance: Any, prior: float = 0.5) -> np.ndarray:
        """Probability that a pair at a distance is of one class.

        Args:
            distance: Distances of the measure of the threshold, of any shape.
            prior: Share of the pairs that are of one class where the threshold is
                used, in (0, 1). Of those that a search in a gallery compares, few are:
                1 in 1,000, say. Defaults to 0.5.

        Returns:
            Probabilities of the same shape: calibrated over classes, and
            non-increasing in the distance.

        Raises:
            ValueError: If `prior` is out of range, or a distance is not in [0, 2] (in
                the range of scores where these are normalised).
        """
        prior = check_number("prior", prior, 0, 1, open_low=True, open_high=True)
        distances = np.asarray(distance, np.float64)
        low, high = distance_range(self.distance)
        if not ((distances >= low) & (distances <= high)).all():
            raise ValueError(
                f"`distance` must be in [{low:g}, {high:g}]. "
                f"Received: distance={distance!r}"
            )
        odds = self.calibration.log_ratio(distances) + math.log(prior / (1.0 - prior))
        return 1.0 / (1.0 + np.exp(-np.clip(odds, -700.0, 700.0)))

    def _steps(
        self, a: Any, b: Any, score_normalization: ScoreNormalization | None
    ) -> np.ndarray:
        self.check_normalization(score_normalization)
        vectors = [self._unit(name, x) for name, x in (("a", a), ("b", b))]
        (first, is_one), (second, is_other) = vectors
        if len(first) != len(second) and not (is_one or is_other):
            raise ValueError(
                "`b` must be one embedding, or as many as `a`, "
                f"{len(first)}. Received: {len(second)}"
            )
        if score_normalization is not None:
            both = score_normalization.rows(np.concatenate([first, second]))
            first, second = both[: len(first)], both.flipped[len(first) :]
        steps = to_steps(np.atleast_1d(pair_similarities(first, second)))
        return steps[0] if is_one and is_other else steps

    def _unit(self, name: str, x: Any) -> tuple[np.ndarray, bool]:
        """Unit vectors of shape `(n, d)`, and whether it was one of shape `(d,)`."""
        is_one = len(np.shape(x)) == 1
        rows = check_embeddings(name, [x] if is_one else x)[:]
        self._check_dimension(name, rows.shape[1])
        return normalize(rows), is_one

    def _check_dimension(self, name: str, dimension: int) -> None:
        if dimension != self.dimension:
            raise ValueError(
                f"`{name}` must have the dimension of the embeddings that the "
                f"threshold was chosen on, {self.dimension}. Received: {dimension}"
            )

    # ------------------------------------------------------------------------ search

    def expected_false_matches(self, gallery_size: int) -> float:
        """False matches of a search, on average.

        Args:
            gallery_size: Samples of other classes that a query is compared with.

        Returns:
            FAR times the size of the gallery.
        """
        return self.far * check_number("gallery_size", gallery_size, 0)

    def largest_gallery(self, false_matches: float) -> float:
        """Size of the gallery in which a search has so many false matches on average.

        Args:
            false_matches: False matches of a search, above 0.

        Returns:
            The inverse of `expected_false_matches`; infinite if the FAR is 0.
        """
        wanted = check_number("false_matches", false_matches, 0, open_low=True)
        return wanted / self.far if self.far else math.inf

    # ------------------------------------------------------------------------ checks

    def check(self, embeddings: Any, labels: Any, **options: Any) -> ThresholdCheck:
        """Measure the threshold on other labelled data.

        Args:
            embeddings: Vectors of any norm, shape `(n, d)`: as for
                `keras_tcm.evaluate_embeddings`; of two towers, `(n, 2, d)`.
            labels: One label per sample, shape `(n,)`.
            options: `gallery_embeddings`, `gallery_labels`,
                `gallery_includes_queries`, `relevance`, `score_normalization`,
                `block_size`, `client`, `device` and `verbose`, as for
                `evaluate_embeddings`.

        Returns:
            The rates, with intervals for other classes, and a verdict.

        Raises:
            ValueError: If the embeddings have another dimension than those that the
                threshold was chosen on; and as `evaluate_embeddings` does.
        """
        self.check_normalization(options.get("score_normalization"))
        counts = count_classes(
            embeddings,
            labels,
            at_thresholds=(self.value,),
            distance=self.distance,
            **options,
        )
        self._check_dimension("embeddings", counts.space.dimension)
        place = int(np.searchsorted(counts.thresholds, self.value))
        far, frr = counts.far.at(place), counts.frr.at(place)
        verdicts = {
            verdict(errors, target, self.confidence, self.class_share)
            for errors, target in ((far, self.far_target), (frr, self.frr_target))
            if target is not None
        }
        kept = None
        if self.promise == "class" and self.far_target is not None:
            kept = float(np.mean(far.per_class[:, 0] <= self.far_target))
        open_set_far, open_set_interval = counts.open_set_far(place, self.confidence)
        return ThresholdCheck(
            # The worst of them.
            verdict=next(one for one in (BROKEN, UNKNOWN, HOLDS) if one in verdicts),
            threshold=self.value,
            confidence=self.confidence,
            far=float(far.rates[0]),
            far_interval=_pair(far.intervals(self.confidence)[0]),
            far_target=self.far_target,
            frr=float(frr.rates[0]),
            frr_interval=_pair(frr.intervals(self.confidence)[0]),
            frr_target=self.frr_target,
            share_kept=kept,
            classes=label_array(counts.classes),
            per_class_far=far.per_class[:, 0],
            per_class_frr=frr.per_class[:, 0],
            num_unanswerable=counts.open_set.num_queries,
            open_set_far=open_set_far,
            open_set_far_interval=open_set_interval,
        )

    def check_unlabelled(
        self, embeddings: Any, score_normalization: ScoreNormalization | None = None
    ) -> UnlabelledCheck:
        """Tell whether the distances between samples have moved, without labels.

        The share of pairs up to each of some distances is compared with those of the
        positive and the negative pairs that the threshold was chosen on, mixed as fits
        best. Its standard error allows for pairs that share a sample, and for samples
        that share a class: these are taken to have about as many samples as the classes
        had then. Of more than 1,024 samples, so many are compared.

        It tells that something has changed, as a camera or the mix of classes would;
        not whether the promise is kept.

        Args:
            embeddings: Vectors of any norm, shape `(n, d)`, at least 10.
            score_normalization: What the threshold was chosen with, if anything.

        Raises:
            ValueError: If there are fewer, they have another dimension, or they are not
                finite; or if the threshold was chosen with another score normalisation.
        """
        from scipy import stats

        self.check_normalization(score_normalization)
        rows = check_embeddings("embeddings", embeddings)
        self._check_dimension("embeddings", rows.shape[1])
        if len(rows) < MIN_SAMPLES:
            raise ValueError(
                f"`embeddings` must have at least {MIN_SAMPLES} rows. "
                f"Received: {len(rows)}"
            )
        vectors = others = normalize(np.asarray(rows[spread(len(rows), MAX_SAMPLES)]))
        if score_normalization is not None:
            scored = score_normalization.rows(vectors)
            vectors, others = scored[:], scored.flipped[:]
        found, expected, standardized = self.sketch.compare(
            to_steps(vectors @ others.T), self.distance
        )
        degrees = max(self.num_classes - 1, 1)
        tail = 2.0 * float(stats.t.sf(np.abs(standardized).max(), degrees))
        p_value = min(1.0, tail * len(found))
        return UnlabelledCheck(
            verdict="moved" if p_value < _MOVED else "no change seen",
            p_value=p_value,
            distances=self.sketch.distances,
            expected=expected,
            found=found,
            standardized=standardized,
        )

    def check_model(self, model: Any) -> None:
        """Raise unless a model has the weights that the threshold was chosen with.

        Args:
            model: A `keras.Model`.

        Raises:
            TypeError: If it has no weights.
            ValueError: If its weights are others, or the threshold was chosen without
                a model.
        """
        if self.model_fingerprint is None:
            raise ValueError(
                "`model` can be checked where the threshold was chosen with "
                "`choose_threshold(..., model=model)`; check the embeddings of the "
                "`canaries` instead. Received: a threshold without a fingerprint"
            )
        found = fingerprint(model)
        if found != self.model_fingerprint:
            raise ValueError(
                "`model` must have the weights that the threshold was chosen with, of "
                f"fingerprint {self.model_fingerprint}: choose a threshold anew for "
                f"another model. Received: a model of fingerprint {found}"
            )

    def check_normalization(
        self, score_normalization: ScoreNormalization | None
    ) -> None:
        """Raise unless the threshold was chosen with this score normalisation.

        Args:
            score_normalization: It, or `None` for none.

        Raises:
            TypeError: If it is anything else.
            ValueError: If the threshold was chosen with another, with one where this is
                `None`, or without any.
        """
        if score_normalization is None:
            if self.normalization_digest is not None:
                raise ValueError(
                    "`score_normalization` must be given with a threshold that was "
                    "chosen with one. Received: score_normalization=None"
                )
            return
        measure_of("cosine", score_normalization)
        if score_normalization.digest != self.normalization_digest:
            raise ValueError(
                "`score_normalization` must be what the threshold was chosen with, "
                f"{self.normalization_digest or 'none'}: choose a threshold anew for "
                f"another. Received: one with the digest {score_normalization.digest}"
            )

    def check_canaries(self, embeddings: Any) -> None:
        """Raise unless these are the embeddings of the canaries.

        Args:
            embeddings: What the model makes of the samples `canaries.rows` of the data
                that the threshold was chosen on, shape `(k, d)`.

        Raises:
            ValueError: If they are others: the model, or what is done to its inputs,
                has changed.
        """
        self.canaries.verify(embeddings)

    # ------------------------------------------------------------------------- words

    def summary(self) -> str:
        """Describe the threshold in a few lines of text."""
        lines = [
            f"Threshold {self.value:.4f} ({self.distance} distance; accept "
            f"{'cosine similarities' if self.distance in DISTANCES else 'scores'} from "
            f"{self.similarity:.4f} on)",
            self._promise(),
            f"FAR {rate_with_interval(self.far, self.far_interval)}",
            f"FRR {rate_with_interval(self.frr, self.frr_interval)}",
            *(
                []
                if self.open_set_far is None
                else [
                    open_set_line(
                        self.open_set_far,
                        self.open_set_far_interval,
                        self.num_unanswerable,
                    )
                ]
            ),
            f"({self.confidence:.0%} intervals, for other classes of the same kind)",
            f"Classes: 95% have a FAR up to {self.per_class_far[0.95]:.3%} and an FRR "
            f"up to {self.per_class_frr[0.95]:.2%}",
            f"Chosen on {self.num_samples:,} samples of {self.num_classes:,} classes"
            + (
                f" ({self.num_excluded_classes:,} more without a pair)"
                if self.num_excluded_classes
                else ""
            )
            + (", against a gallery" if self.has_gallery else ""),
            f"Probabilities: {self.calibration.kind}, Cllr {self.calibration.cllr:.3f} "
            f"(at best {self.calibration.min_cllr:.3f})",
        ]
        return "\n".join(lines)

    def _promise(self) -> str:
        rates = " and ".join(
            f"{name} at most {target:g}"
            for name, target in (("FAR", self.far_target), ("FRR", self.frr_target))
            if target is not None
        )
        if self.promise == "class":
            assert self.class_share is not None
            whom = f"{self.class_share:.0%} of other classes of the same kind, each"
        else:
            whom = "other classes of the same kind"
        return f"Promise: {rates} for {whom}, with {self.confidence:.0%} confidence"

    # ------------------------------------------------------------------------- files

    def to_dict(self) -> dict[str, Any]:
        """Return the threshold as JSON-ready values."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.tolist()
            elif hasattr(value, "to_dict"):
                value = value.to_dict()
            elif isinstance(value, dict):
                value = {str(key): item for key, item in value.items()}
            elif isinstance(value, tuple):
                value = list(value)
            values[field.name] = value
        return {**_HEADER, **values}

    def save(self, path: str | os.PathLike) -> None:
        """Write the threshold to a JSON file: whole, or not at all."""
        artefacts.save(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a threshold that `save` wrote.

        Raises:
            ValueError: If the file does not hold one.
        """
        return artefacts.load(path, "Threshold", cls.from_dict)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a threshold of what `to_dict` returned, also by way of JSON.

        Raises:
            ValueError: If it is anything else, or what another version returned.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        known = artefacts.check_fields(
            _of_this_version(values),
            "Threshold",
            _HEADER,
            names,
            "choose the threshold anew",
        )
        try:
            return cls(**_read(known))
        except (KeyError, TypeError) as error:
            raise ValueError(
                "`values` must be what `Threshold.to_dict` returns. Received: values "
                f"of other forms ({error!r})"
            ) from error


def pair_similarities(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Products of unit vectors, pair by pair, the same whoever asks; float64."""
    return np.einsum("...d,...d->...", first, second, dtype=np.float64)


def _of_this_version(values: Any) -> Any:
    """Values of version 2, which knew no open-set FAR, as of this version."""
    if not artefacts.is_of_version(values, _HEADER, 2):
        return values
    return {**values, **_HEADER, **dict.fromkeys(_NEW)}


def _read(known: dict[str, Any]) -> dict[str, Any]:
    """Fields of a threshold from JSON-ready values."""
    for name in known:
        if name.startswith("curve_"):
            known[name] = np.asarray(known[name], np.float64)
        elif name.endswith("_interval") and known[name] is not None:
            known[name] = _pair(known[name])
        elif name.startswith("per_class_"):
            known[name] = {float(key): x for key, x in known[name].items()}
    digest = known["normalization_digest"]
    measures = DISTANCES if digest is None else tuple(STRETCHES)
    check_choice("distance", known["distance"], measures)
    check_number("value", known["value"], *distance_range(known["distance"]))
    check_integer("dimension", known["dimension"], 1)
    known["calibration"] = ScoreCalibration.from_dict(known["calibration"])
    known["sketch"] = DistanceSketch.from_dict(known["sketch"])
    known["canaries"] = Canaries.from_dict(known["canaries"])
    return known


def _pair(values: Any) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)
