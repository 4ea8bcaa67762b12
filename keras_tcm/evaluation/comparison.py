"""The result of a comparison of two models."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

from keras_tcm.evaluation.evaluation import Evaluation

# Of all intervals.
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value, and the interval that holds what is expected of it.

    Attributes:
        value: The value.
        interval: Lower and upper limit, at a confidence of 95%; `None` where nothing
            tells the spread.
    """

    value: float
    interval: tuple[float, float] | None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and all of it lies on one side of zero."""
        if self.interval is None:
            return False
        return self.interval[0] > 0 or self.interval[1] < 0

    def map(self, function: Callable[[float], float]) -> Self:
        """Apply an increasing function to the value and to the limits."""
        low_high = self.interval and (
            function(self.interval[0]),
            function(self.interval[1]),
        )
        return type(self)(function(self.value), low_high)


@dataclasses.dataclass(frozen=True)
class MeasureChange:
    """One measure of two models.

    Attributes:
        first: Its value for the first model.
        second: Its value for the second.
        difference: Second minus first, with its interval.
        relative: Relative change from the first to the second, with its interval;
            `None` where the first is 0. The interval is `None` where resamples of the
            first are 0.
    """

    first: float
    second: float
    difference: Estimate
    relative: Estimate | None


@dataclasses.dataclass(frozen=True, eq=False)
class ModelComparison:
    """What `compare_embeddings` found.

    Attributes:
        names: What the models are called.
        first: Evaluation of the first model.
        second: Evaluation of the second.
        changes: By measure: `"recall_at_1"`, `"map_at_r"`, `"opis"`,
            `"epsilon_opis"`, `"eer"`, and `"frr"` at a FAR of 1% unless the negative
            pairs are too few to resolve that.
        num_resamples: Resamples of the bootstrap.
        seed: Its seed.
    """

    names: tuple[str, str]
    first: Evaluation
    second: Evaluation
    changes: dict[str, MeasureChange]
    num_resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the changes, and what they rest on, as JSON-ready values."""
        return {
            "format": "keras_tcm.ModelComparison",
            "names": list(self.names),
            "samples": self.first.num_samples,
            "classes": len(self.first.classes),
            "distance": self.first.distance,
            "beta": self.first.beta,
            "epsilon": self.first.epsilon,
            "calibration_ranges": [
                list(self.first.calibration_range),
                list(self.second.calibration_range),
            ],
            "confidence": CONFIDENCE,
            "num_resamples": self.num_resamples,
            "seed": self.seed,
            "changes": {
                name: dataclasses.asdict(change)
                for name, change in self.changes.items()
            },
        }
