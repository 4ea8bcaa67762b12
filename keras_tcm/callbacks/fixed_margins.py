"""Whether fixed margins of TCM are where the model decides."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

from keras_tcm.evaluation import Evaluation
from keras_tcm.losses import TCM, WeightedSum

# Share of the positive pairs that are hard from which on TCM pulls at everything.
_NEARLY_ALL = 0.95


class FixedMargins:
    """Warns once of a `TCM` for which nearly all positive pairs are hard.

    Args:
        distance: `"cosine"` or `"euclidean"`.
    """

    def __init__(self, distance: str) -> None:
        self._distance = distance
        self._is_told = False

    def thresholds(self, loss: Any) -> tuple[float, ...]:
        """Distances of the positive margins of what a model was compiled with."""
        if self._is_told:
            return ()
        margins = dict.fromkeys(tcm.positive_margin for tcm in _terms(loss))
        return tuple(map(self._to_distance, margins))

    def look_at(self, evaluation: Evaluation, loss: Any) -> None:
        """Warn if an evaluation at these distances shows margins far from the model."""
        for threshold in self.thresholds(loss):
            share = float(evaluation.rates_at(threshold).frr)
            if share < _NEARLY_ALL:
                continue
            self._is_told = True
            high, low = map(self._to_similarity, evaluation.calibration_range)
            warnings.warn(
                f"{share:.1%} of the positive pairs are hard for a TCM with a positive "
                f"margin of {self._to_similarity(threshold):.3g}: it pulls at nearly "
                "everything, which can cost accuracy and consistency. The model "
                f"decides at cosine similarities of {low:.3g} to {high:.3g}. "
                "`keras_tcm.AutoTCM(base)` sets its margins there by itself. (This is "
                "said once.)",
                stacklevel=3,
            )
            return

    def _to_distance(self, similarity: float) -> float:
        distance = 1.0 - similarity
        return math.sqrt(2 * distance) if self._distance == "euclidean" else distance

    def _to_similarity(self, distance: float) -> float:
        return 1.0 - (distance**2 / 2 if self._distance == "euclidean" else distance)


def _terms(loss: Any) -> Iterator[TCM]:
    """Every `TCM` with fixed margins in what a model was compiled with."""
    if isinstance(loss, TCM):
        yield loss
    elif isinstance(loss, WeightedSum):
        for term, weight in zip(loss.losses, loss.weights, strict=True):
            if weight > 0:
                yield from _terms(term)
    elif isinstance(loss, dict):
        yield from _terms(list(loss.values()))
    elif isinstance(loss, list | tuple):
        for each in loss:
            yield from _terms(each)
