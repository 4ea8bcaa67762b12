"""What each class contributes to the measures of an evaluation."""

import dataclasses
from typing import Any, Self

import numpy as np

from keras_tcm.evaluation._counting.count_pairs import count_pairs
from keras_tcm.evaluation._inputs.pair_space import pair_space
from keras_tcm.evaluation._rates import evaluation_of
from keras_tcm.evaluation._walk.plan import plan_for
from keras_tcm.evaluation.criteria import make_criteria
from keras_tcm.evaluation.evaluation import Evaluation
from keras_tcm.ops.curves import mean_over_range, num_worst_classes

# The FAR at which models are compared by their FRR.
FAR_TARGET = 0.01
# FARs at which the classes' rates are known; between them they are interpolated. The
# last point accepts everything, so that FAR and FRR cross.
_FARS = (*np.geomspace(0.001, 0.5, 100).tolist(), 1.0)
_FAR_TARGETS = (0.001, FAR_TARGET, 0.1)
# As by default in `evaluate_embeddings`.
_RECALL_AT = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassFigures:
    """An evaluation, and what its measures are made of, class by class.

    `C` counts the classes, `G` the thresholds at which rates are known.

    Attributes:
        evaluation: The evaluation.
        hits: Queries of each class whose nearest neighbour is of the class, shape
            `(C,)`.
        average_precision: Sum of the average precision at R of the queries, `(C,)`.
        num_positives: Positive pairs of each class, `(C,)`.
        num_negatives: Negative pairs with an end in each class, `(C,)`.
        rejected_positives: Positive pairs beyond each threshold, `(C, G)`.
        accepted_negatives: Negative pairs up to each threshold, `(C, G)`.
        other_negatives: Ends of negative pairs outside of these classes.
        accepted_others: Those up to each threshold, `(G,)`.
    """

    evaluation: Evaluation
    hits: np.ndarray
    average_precision: np.ndarray
    num_positives: np.ndarray
    num_negatives: np.ndarray
    rejected_positives: np.ndarray
    accepted_negatives: np.ndarray
    other_negatives: int
    accepted_others: np.ndarray

    @classmethod
    def of(
        cls,
        embeddings: Any,
        labels: Any,
        gallery_embeddings: Any,
        gallery_labels: Any,
        far_range: tuple[float, float] = (0.01, 0.1),
        beta: float = 1.0,
        epsilon: float = 0.1,
        distance: str = "cosine",
        gallery_includes_queries: bool = False,
    ) -> Self:
        """Evaluate embeddings; see `evaluate_embeddings` for the arguments."""
        criteria = make_criteria(
            far_range,
            beta=beta,
            epsilon=epsilon,
            distance=distance,
            far_targets=(*_FAR_TARGETS, *_FARS),
        )
        space = pair_space(
            embeddings,
            labels,
            gallery_embeddings,
            gallery_labels,
            gallery_includes_queries=gallery_includes_queries,
        )
        counts = count_pairs(space, plan_for(space, _RECALL_AT), criteria)
        evaluation = evaluation_of(counts, criteria, _RECALL_AT)
        # The queries come class by class.
        classes = np.repeat(np.arange(len(counts.class_counts)), counts.class_counts)
        points = evaluation.operating_points
        known = [
            number
            for number, point in enumerate(points)
            if number >= len(_FAR_TARGETS) and point.resolved
        ]
        # The thresholds of the calibration range come before the operating points.
        places = criteria.num_thresholds + np.array(known)
        accepted_negatives = counts.negatives_accepted[:, places]
        accepted_positives = counts.positives_accepted[:, places]
        # Without a gallery, both ends of a pair count.
        ends = counts.num_negative_pairs * space.times_met
        accepted_ends = ends * np.array([points[number].far for number in known])
        return cls(
            evaluation=dataclasses.replace(
                evaluation, operating_points=points[: len(_FAR_TARGETS)]
            ),
            hits=np.bincount(classes, counts.hits[:, 0]),
            average_precision=np.bincount(classes, counts.average_precision),
            num_positives=counts.num_positives,
            num_negatives=counts.num_negatives,
            rejected_positives=counts.num_positives[:, None] - accepted_positives,
            accepted_negatives=accepted_negatives,
            other_negatives=ends - int(counts.num_negatives.sum()),
            accepted_others=accepted_ends - accepted_negatives.sum(axis=0),
        )

    def measures(self) -> dict[str, float]:
        """The measures of the evaluation; without the FRR if that is not resolved."""
        evaluation = self.evaluation
        values = {
            "recall_at_1": evaluation.recall[1],
            "map_at_r": evaluation.map_at_r,
            "opis": evaluation.opis,
            "epsilon_opis": evaluation.epsilon_opis,
            "eer": evaluation.eer,
        }
        point = evaluation.operating_point(FAR_TARGET)
        return {**values, "frr": point.frr} if point.resolved else values

    def resampled(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """The measures when classes occur several times, or not at all.

        Args:
            times: How often each class occurs in each resample; integers of shape
                `(resamples, C)` whose rows sum to `C`.

        Returns:
            Values of shape `(resamples,)` by the names of `measures`.
        """
        times = times.astype(np.float64)
        num_queries = times @ self.evaluation.class_counts
        utility = self.evaluation.utility
        far = (times @ self.accepted_negatives + self.accepted_others) / (
            times @ self.num_negatives + self.other_negatives
        )[:, None]
        frr = times @ self.rejected_positives / (times @ self.num_positives)[:, None]
        values = {
            "recall_at_1": times @ self.hits / num_queries,
            "map_at_r": times @ self.average_precision / num_queries,
            "opis": _opis(utility, times),
            "epsilon_opis": _epsilon_opis(utility, times, self.evaluation.epsilon),
            "eer": _at_crossing(far - frr, (far + frr) / 2),
            "frr": _at_crossing(far - FAR_TARGET, frr),
        }
        return {name: values[name] for name in self.measures()}


def _opis(utility: np.ndarray, times: np.ndarray) -> np.ndarray:
    """OPIS of resamples: the mean of the squares less the square of the mean."""
    # About the mean class, so that little cancels.
    deviation = utility - utility.mean(axis=0)
    num_classes = len(utility)
    squares = times @ mean_over_range(np.square(deviation)) / num_classes
    return squares - mean_over_range(np.square(times @ deviation / num_classes))


def _epsilon_opis(utility: np.ndarray, times: np.ndarray, epsilon: float) -> np.ndarray:
    """Epsilon-OPIS of resamples: each has its own worst classes."""
    order = np.argsort(mean_over_range(utility), kind="stable")
    utility, times = utility[order], times[:, order]
    num_worst = num_worst_classes(len(utility), epsilon)
    worse = np.cumsum(times, axis=1) - times
    worst = np.clip(num_worst - worse, 0, times)
    gap = worst @ utility / num_worst
    gap -= (times - worst) @ utility / (len(utility) - num_worst)
    return mean_over_range(np.square(gap))


def _at_crossing(gaps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values where gaps reach 0, linear between thresholds.

    Args:
        gaps: Increasing over thresholds up to a value >= 0, shape `(resamples, G)`.
        values: The same shape.
    """
    rows = np.arange(len(gaps))
    after = np.argmax(gaps >= 0, axis=1)
    before = np.maximum(after - 1, 0)
    width = gaps[rows, after] - gaps[rows, before]
    share = np.divide(
        -gaps[rows, before], width, out=np.zeros_like(width), where=width > 0
    )
    return (1 - share) * values[rows, before] + share * values[rows, after]
