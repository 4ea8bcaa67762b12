"""The operating-point inconsistency score as a Keras metric."""

import math
from typing import Any, Literal

import keras
import numpy as np

from keras_tcm.evaluation import UndefinedError, evaluate_embeddings
from keras_tcm.evaluation.distance import DISTANCES, from_cosine, to_cosine
from keras_tcm.metrics.embedding_metric import EmbeddingMetric
from keras_tcm.metrics.pair_histograms import NUM_BINS, PairHistograms
from keras_tcm.ops.curves import epsilon_opis, opis_per_class, utility_curves
from keras_tcm.validation import check_choice, check_number, check_range

_NUM_THRESHOLDS = 101
# Below this many samples, or bins in the calibration range, binning shows: the metric
# is evaluated exactly instead.
_MIN_SAMPLES = 1024
_MIN_BINS_IN_RANGE = 50


@keras.saving.register_keras_serializable(package="keras_tcm")
class OPIS(EmbeddingMetric):
    """Operating-point inconsistency score: does one threshold fit all classes?

    The variance over classes of the utility (F-beta of specificity and sensitivity) at
    a common distance threshold, averaged over a calibration range. 0 when one
    threshold serves all classes equally; lower is better. See `evaluate_embeddings`
    for the definition and for how it relates to the paper.

    It is computed over all pairs of all samples seen since the last reset, whatever
    the batch size, up to `memory_size` samples; past that it is a sliding window over
    the most recent ones and warns once. The value agrees with `evaluate_embeddings`
    within 1% (it is the same below 1,024 samples; from there on, distances are counted
    in 2,048 bins).

    Inside a compiled step of JAX or TensorFlow there is no value to compute with: the
    progress bar shows NaN until the end of the epoch; epoch logs, History and
    `evaluate` have the value. It is NaN, never 0, where it is not defined: fewer than
    two classes with a positive pair, too few negative pairs to resolve `far_range`,
    NaN or collapsed embeddings.

    Args:
        far_range: Global false acceptance rates that bound the calibration range, in
            (0, 1]. Defaults to `(0.01, 0.1)`.
        calibration_range: Distances that bound it instead, in [0, 2].
        beta: Weight of the sensitivity in the utility, above 0. Defaults to 1.0.
        epsilon: `None` for OPIS; a share in (0, 1) for epsilon-OPIS, the squared gap
            between the worst `epsilon` share of the classes and the others. Defaults
            to `None`.
        distance: `"cosine"` or `"euclidean"`. Defaults to `"cosine"`.
        memory_size: Samples kept, at least 2. Defaults to 8192.
        name: Name of the metric. Defaults to `"opis"`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument has the wrong type.

    Example:

    >>> metric = keras_tcm.metrics.OPIS()
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(np.arange(20), 10)
    >>> embeddings = rng.normal(size=(20, 32))[labels] + rng.normal(size=(200, 32))
    >>> metric.update_state(labels, embeddings)
    >>> exact = keras_tcm.evaluate_embeddings(embeddings, labels).opis
    >>> abs(float(metric.result()) / exact - 1) < 0.01
    True

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
    """

    def __init__(
        self,
        far_range: tuple[float, float] = (0.01, 0.1),
        calibration_range: tuple[float, float] | None = None,
        beta: float = 1.0,
        epsilon: float | None = None,
        distance: Literal["cosine", "euclidean"] = "cosine",
        memory_size: int = 8192,
        name: str | None = "opis",
        dtype: Any = None,
    ) -> None:
        super().__init__(memory_size=memory_size, name=name, dtype=dtype)
        self.far_range = check_range("far_range", far_range, 0, 1)
        check_number("far_range", self.far_range[0], 0, 1, open_low=True)
        self.calibration_range = (
            None
            if calibration_range is None
            else check_range("calibration_range", calibration_range, 0, 2)
        )
        self.beta = check_number("beta", beta, 0, open_low=True)
        self.epsilon = (
            None
            if epsilon is None
            else check_number("epsilon", epsilon, 0, 1, open_low=True, open_high=True)
        )
        check_choice("distance", distance, DISTANCES)
        self.distance = distance
        # Lower is better, for callbacks with mode="auto".
        self._direction = "down"
        self._histograms = PairHistograms()

    def compute(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        """Compute the metric of the samples in memory."""
        if not len(labels):
            return math.nan
        if len(labels) < _MIN_SAMPLES:
            return self._compute_exactly(embeddings, labels)
        self._histograms.follow(embeddings, labels)
        positive = self._histograms.positive
        negative = self._histograms.all_pairs - positive
        num_positives, num_negatives = positive.sum(axis=1), negative.sum(axis=1)
        eligible = (num_positives > 0) & (num_negatives > 0)
        if eligible.sum() < 2:
            return math.nan
        bounds = self._calibration_bins(negative.sum(axis=0))
        if bounds is None:
            return math.nan
        if bounds[1] - bounds[0] < _MIN_BINS_IN_RANGE:
            return self._compute_exactly(embeddings, labels)
        low, high = from_cosine(_cosine_of_bin(np.array(bounds)), self.distance)
        thresholds = np.linspace(low, high, _NUM_THRESHOLDS)
        positions = _bin_of_cosine(to_cosine(thresholds, self.distance))
        return self._reduce(
            utility_curves(
                _count_below(positive[eligible], positions),
                num_positives[eligible],
                _count_below(negative[eligible], positions),
                num_negatives[eligible],
                self.beta,
            )
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "far_range": self.far_range,
            "calibration_range": self.calibration_range,
            "beta": self.beta,
            "epsilon": self.epsilon,
            "distance": self.distance,
        }

    def _reduce(self, utility: np.ndarray) -> float:
        if self.epsilon is None:
            return float(opis_per_class(utility).mean())
        return epsilon_opis(utility, self.epsilon)

    def _calibration_bins(self, negative: np.ndarray) -> tuple[float, float] | None:
        """Ends of the calibration range in (fractional) bins, if it is defined."""
        if self.calibration_range is not None:
            ends = np.array(self.calibration_range)
            low, high = _bin_of_cosine(to_cosine(ends, self.distance))
            return float(low), float(high)
        # Each pair was counted from both of its ends.
        below = np.concatenate([[0], np.cumsum(negative)]) / 2
        if self.far_range[0] * below[-1] < 1:
            return None
        # The pair with p pairs before it is taken to lie in the middle of its share of
        # the bin.
        ranks = np.array(self.far_range) * (below[-1] - 1) + 0.5
        low, high = np.interp(ranks, below, np.arange(NUM_BINS + 1))
        return float(low), float(high)

    def _compute_exactly(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        try:
            result = evaluate_embeddings(
                embeddings,
                labels,
                far_range=self.far_range,
                calibration_range=self.calibration_range,
                beta=self.beta,
                epsilon=0.5 if self.epsilon is None else self.epsilon,
                distance=self.distance,
                recall_at=(1,),
                far_targets=(),
                verbose=False,
            )
        except UndefinedError:
            return math.nan
        return result.opis if self.epsilon is None else result.epsilon_opis


def _bin_of_cosine(cosine_distance: np.ndarray) -> np.ndarray:
    return np.sqrt(2.0 * np.asarray(cosine_distance)) * (NUM_BINS / 2)


def _cosine_of_bin(position: np.ndarray) -> np.ndarray:
    return np.square(position / (NUM_BINS / 2)) / 2.0


def _count_below(histograms: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Counts below fractional bin positions, shape `(classes, positions)`."""
    bins = np.minimum(positions.astype(np.int64), NUM_BINS - 1)
    below = np.cumsum(histograms, axis=1) - histograms
    return below[:, bins] + (positions - bins) * histograms[:, bins]
