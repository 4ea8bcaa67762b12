"""FAR and FRR, in all and of each class, at many thresholds."""

import base64
import dataclasses
from typing import Any, Self

import numpy as np

from keras_tcm.ops.curves import f_beta

# How arrays of many classes are written: little-endian, whatever the machine.
_FLOAT32 = np.dtype("<f4")


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorRates:
    """What each threshold does to the pairs, in all and class by class.

    `C` counts the classes, `R` the thresholds: those of the calibration range, those of
    the operating points, where FAR and FRR are closest, and on either side of the range
    as dense ones out to the farthest of these, but no more than the range itself has.

    Attributes:
        thresholds: Distances, increasing, shape `(R,)`.
        far: Share of all negative pairs that are accepted, shape `(R,)`.
        frr: Share of all positive pairs that are rejected, shape `(R,)`.
        per_class_far: The same share of each class's negative pairs, float32 (float64
            where `Evaluation.rates_at` returns it), shape `(C, R)`.
        per_class_frr: The same share of each class's positive pairs, likewise.

    Example:

    >>> rates = result.error_rates
    >>> rates.per_class_far.shape == (len(result.classes), len(rates.thresholds))
    True
    """

    thresholds: np.ndarray
    far: np.ndarray
    frr: np.ndarray
    per_class_far: np.ndarray
    per_class_frr: np.ndarray

    def utility(self, beta: float) -> np.ndarray:
        """Utility of each class at each threshold.

        Args:
            beta: Weight of the sensitivity; above 1 favours it.

        Returns:
            F-beta of specificity and sensitivity, in [0, 1], shape `(C, R)`.
        """
        return f_beta(
            1.0 - self.per_class_frr.astype(np.float64),
            1.0 - self.per_class_far.astype(np.float64),
            beta,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the rates as JSON-ready values.

        Those of the classes are base64 text of little-endian float32, class by class:
        exact, and a quarter of the size that numbers would have.
        """
        return {
            "thresholds": self.thresholds.tolist(),
            "far": self.far.tolist(),
            "frr": self.frr.tolist(),
            "per_class_far": _encode(self.per_class_far),
            "per_class_frr": _encode(self.per_class_frr),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make rates of what `to_dict` returned.

        Raises:
            ValueError: If it is anything else.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict) or values.keys() != set(names):
            raise ValueError(
                f"`values` must have the keys {', '.join(names)}. "
                f"Received: {values!r:.200}"
            )
        shared = [np.asarray(values[name], np.float64) for name in names[:3]]
        per_class = [
            np.frombuffer(base64.b64decode(values[name]), _FLOAT32)
            .reshape(-1, len(shared[0]))
            .astype(np.float32)
            for name in names[3:]
        ]
        return cls(*shared, *per_class)


def _encode(values: np.ndarray) -> str:
    """Write an array as base64 text of little-endian float32, row by row."""
    return base64.b64encode(values.astype(_FLOAT32).tobytes()).decode("ascii")
