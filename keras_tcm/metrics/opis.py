"""The operating-point inconsistency score as a Keras metric."""

import math
from typing import Any, Literal

import keras
import numpy as np

from keras_tcm.evaluation import (
    UndefinedError,
    check_relevance,
    evaluate_embeddings,
    make_criteria,
)
from keras_tcm.metrics.embedding_metric import EmbeddingMetric
from keras_tcm.metrics.opis_of_batch import opis_of_batch


@keras.saving.register_keras_serializable(package="keras_tcm")
class OPIS(EmbeddingMetric):
    """Operating-point inconsistency score: does one threshold fit all classes?

    The variance over classes of the utility (F-beta of specificity and sensitivity) at
    a common distance threshold, averaged over a calibration range. 0 when one
    threshold serves all classes equally; lower is better. See `evaluate_embeddings`
    for the definition and for how it relates to the paper.

    It is computed over all pairs of all samples seen since the last reset, whatever
    the batch size, up to `memory_size` samples; past that it is a sliding window over
    the most recent ones and warns once. The value is that of `evaluate_embeddings`.

    It is computed at the end of an epoch, for the epoch logs, History and `evaluate`;
    8,192 samples take a fraction of a second. It is NaN, never 0, where it is not
    defined: fewer than two classes with a positive pair, too few negative pairs to
    resolve `far_range`, NaN or collapsed embeddings. In a step, `train_on_batch` and
    `test_on_batch` give the value of the batch (its last 1,024 samples at most), with 1
    in place of NaN, and the progress bar of `fit` shows the value computed last.

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
        relevance: What makes a pair positive: a `SharedLabel`, `HierarchyLevel` or
            symmetric `ClassRelevance` of `keras_tcm.relevance`; see
            `evaluate_embeddings`. Defaults to `None`: equal labels.
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
    >>> abs(float(metric.result()) / exact - 1) < 1e-4
    True

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
    """

    worst_value = 1.0
    direction = "down"

    def __init__(
        self,
        far_range: tuple[float, float] = (0.01, 0.1),
        calibration_range: tuple[float, float] | None = None,
        beta: float = 1.0,
        epsilon: float | None = None,
        distance: Literal["cosine", "euclidean"] = "cosine",
        memory_size: int = 8192,
        relevance: Any = None,
        name: str | None = "opis",
        dtype: Any = None,
    ) -> None:
        relevance = check_relevance(relevance, has_gallery=False)
        super().__init__(memory_size, relevance, name, dtype)
        criteria = make_criteria(
            far_range,
            calibration_range=calibration_range,
            beta=beta,
            epsilon=0.5 if epsilon is None else epsilon,
            distance=distance,
        )
        self.far_range = criteria.far_range
        self.calibration_range = criteria.calibration_range
        self.beta = criteria.beta
        self.epsilon = None if epsilon is None else criteria.epsilon
        self.distance = distance

    def compute(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        """Compute the metric of the samples in memory."""
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
                relevance=self.relevance,
                verbose=False,
            )
        except UndefinedError:
            return math.nan
        return result.opis if self.epsilon is None else result.epsilon_opis

    def compute_in_step(self, embeddings: Any, labels: Any) -> Any:
        """Compute the metric of a batch with operations of the backend."""
        return opis_of_batch(
            embeddings,
            labels,
            relevance=self.relevance,
            far_range=self.far_range,
            calibration_range=self.calibration_range,
            beta=self.beta,
            epsilon=self.epsilon,
            distance=self.distance,
            undefined=self.worst_value,
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
