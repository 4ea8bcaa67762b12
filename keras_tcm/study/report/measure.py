"""The measures that studies and comparisons report, and how they are written."""

import dataclasses

from keras_tcm.study.estimate import Estimate
from keras_tcm.study.report.document import Markdown, toned


@dataclasses.dataclass(frozen=True)
class Measure:
    """One measure of an evaluation.

    Attributes:
        name: Key of its values.
        title: What it is called.
        unit: Unit of its values in tables.
        factor: Converts a value to the unit.
        decimals: Decimals in the unit.
        is_higher_better: Whether an increase is an improvement.
    """

    name: str
    title: str
    unit: str
    factor: float
    decimals: int
    is_higher_better: bool = False

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})"

    @property
    def better(self) -> str:
        """`"higher"` or `"lower"`."""
        return "higher" if self.is_higher_better else "lower"

    def format(self, value: float) -> str:
        """Write a value in the unit."""
        return f"{self.factor * value:.{self.decimals}f}"

    def difference(self, estimate: Estimate, is_brief: bool = False) -> Markdown:
        """Write a difference of two values, with its direction and its interval.

        Args:
            estimate: The difference.
            is_brief: Whether to leave the interval out, but for the mark that it
                excludes zero.
        """
        scaled = estimate.map(lambda value: self.factor * value)
        return self._change(scaled, f"+.{self.decimals}f", "", is_brief)

    def relative(self, estimate: Estimate, is_brief: bool = False) -> Markdown:
        """Write a relative change likewise."""
        percent = estimate.map(lambda value: 100 * value)
        return self._change(percent, "+.1f", "%", is_brief)

    def _change(
        self, estimate: Estimate, form: str, unit: str, is_brief: bool
    ) -> Markdown:
        text = f"{_arrow(estimate.value)} {estimate.value:{form}}{unit}"
        if estimate.interval is not None and not is_brief:
            low, high = (f"{limit:{form}}{unit}" for limit in estimate.interval)
            text += f" [{low}, {high}]"
        if estimate.excludes_zero:
            text += " *"
        return toned(text, self.tone(estimate.value))

    def tone(self, change: float) -> str:
        """`"better"`, `"worse"`, or nothing where a value has not changed."""
        if change == 0:
            return ""
        return "better" if (change > 0) == self.is_higher_better else "worse"


def _arrow(change: float) -> str:
    """Direction of a change."""
    return "↑" if change > 0 else "↓" if change < 0 else "→"


PER_MILLE = "10⁻³"

RECALL = Measure("recall_at_1", "R@1", "%", 100, 2, is_higher_better=True)
OPIS = Measure("opis", "OPIS", PER_MILLE, 1000, 3)


def epsilon_opis_measure(epsilon: float) -> Measure:
    """Measure "epsilon-OPIS" of an epsilon."""
    title = f"{epsilon:.0%}-OPIS"
    return Measure("epsilon_opis", title, PER_MILLE, 1000, 2)
