"""What a threshold does on other data."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class ThresholdCheck:
    """The rates of a threshold on other labelled data, and what that says.

    Attributes:
        verdict: `"holds"` if what was promised is at most the target for other classes
            of this kind, with the confidence of the promise; `"broken"` if it exceeds
            it, with that confidence; `"too few classes to tell"` otherwise.
        threshold: The distance.
        confidence: Probability that an interval holds.
        far: False acceptance rate on these data.
        far_interval: What it is for other classes of the same kind.
        far_target: What was promised, or `None`.
        frr: False rejection rate on these data.
        frr_interval: What it is for other classes of the same kind.
        frr_target: What was promised, or `None`.
        share_kept: Share of the classes whose own FAR is at most the target; `None`
            where that is not what was promised.
        classes: Labels of the classes, shape `(C,)`.
        per_class_far: Share of each class's negative pairs accepted, shape `(C,)`.
        per_class_frr: Share of each class's positive pairs rejected, shape `(C,)`.
        num_unanswerable: Samples (queries) without a positive pair.
        open_set_far: Share of them that are accepted with any gallery sample: see
            `keras_tcm.evaluation.OperatingPoint`. `None` if there are none.
        open_set_far_interval: What it is for other classes of such queries against the
            same gallery. `None` if they are of fewer than three classes.
    """

    verdict: str
    threshold: float
    confidence: float
    far: float
    far_interval: tuple[float, float]
    far_target: float | None
    frr: float
    frr_interval: tuple[float, float]
    frr_target: float | None
    share_kept: float | None
    classes: np.ndarray = dataclasses.field(repr=False)
    per_class_far: np.ndarray = dataclasses.field(repr=False)
    per_class_frr: np.ndarray = dataclasses.field(repr=False)
    num_unanswerable: int = 0
    open_set_far: float | None = None
    open_set_far_interval: tuple[float, float] | None = None

    def summary(self) -> str:
        """Describe the check in a few lines of text."""
        lines = [f"Threshold {self.threshold:.4f} on {len(self.classes):,} classes"]
        for name, rate, interval, target in (
            ("FAR", self.far, self.far_interval, self.far_target),
            ("FRR", self.frr, self.frr_interval, self.frr_target),
        ):
            promised = "" if target is None else f", promised {target:g}"
            lines.append(f"{name} {rate_with_interval(rate, interval)}{promised}")
        if self.open_set_far is not None:
            lines.append(
                open_set_line(
                    self.open_set_far, self.open_set_far_interval, self.num_unanswerable
                )
            )
        if self.share_kept is not None:
            lines.append(f"{self.share_kept:.1%} of the classes keep the FAR promised")
        lines.append(
            f"({self.confidence:.0%} intervals, for other classes of the same kind)"
        )
        lines.append(f"The promise: {self.verdict}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class UnlabelledCheck:
    """Whether distances between samples without labels are those of the calibration.

    Attributes:
        verdict: `"moved"`, or `"no change seen"`.
        p_value: Probability of as large a difference, if nothing has changed: of the
            largest of `K`, times `K`.
        distances: Distances, shape `(K,)`.
        expected: Share of the pairs of samples up to each that the data would give on
            which the threshold was chosen, with as many positive pairs among them.
        found: The same of these samples.
        standardized: What these differ by, in standard errors.
    """

    verdict: str
    p_value: float
    distances: np.ndarray = dataclasses.field(repr=False)
    expected: np.ndarray = dataclasses.field(repr=False)
    found: np.ndarray = dataclasses.field(repr=False)
    standardized: np.ndarray = dataclasses.field(repr=False)

    def summary(self) -> str:
        """Describe the check in a few lines of text."""
        place = int(np.argmax(np.abs(self.standardized)))
        return (
            f"Distances between samples: {self.verdict} (p = {self.p_value:.2g})\n"
            f"Most of all up to {self.distances[place]:.4f}: "
            f"{self.found[place]:.3%} of the pairs, where {self.expected[place]:.3%} "
            "were to be expected"
        )


def open_set_line(
    rate: float, interval: tuple[float, float] | None, num_queries: int | None
) -> str:
    """The open-set FAR as a line of text."""
    known = f"{rate:.3%}" if interval is None else rate_with_interval(rate, interval)
    return f"Open-set FAR {known}, of {num_queries:,} queries without a positive"


def rate_with_interval(rate: float, interval: tuple[float, float]) -> str:
    """A rate and its interval as text."""
    low, high = interval
    return f"{rate:.3%} ({low:.3%} to {high:.3%})"
