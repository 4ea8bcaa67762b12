"""What the runs of a study say: pairs of models with and without TCM, and statistics.

The two models of a pair differ in nothing but TCM: same data, network, base loss,
steps, batches and seed. A model without TCM has a partner in each arm of the study.
All intervals are for the mean of paired changes.
"""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from keras_tcm.study.estimate import Estimate, mean_estimate
from keras_tcm.study.grid import Run, TCMSetting
from keras_tcm.study.run_record import RunRecord

# And whether changes by a factor are what matters.
MEASURES = {"recall_at_1": False, "opis": True, "epsilon_opis": True}

# A pair: without TCM, with TCM.
Pair = tuple[RunRecord, RunRecord]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is trained with and without TCM.

    Attributes:
        dataset: Name of the data set.
        backbone: Name of the network.
        loss: Name of the base loss.
        batch_size: Samples in a batch, where a part of the study varies it.
        weight: Weight of TCM, where a part of the study varies it.
        arm: What brings TCM in, `"TCM"` or `"AutoTCM"`, where both may.
    """

    dataset: str
    backbone: str
    loss: str
    batch_size: int | None = None
    weight: float | None = None
    arm: str | None = None

    @property
    def base(self) -> "Setting":
        """What it has in common with the models without TCM."""
        return dataclasses.replace(self, weight=None, arm=None)

    def __str__(self) -> str:
        words = [self.dataset, self.backbone, self.loss]
        if self.batch_size is not None:
            words.append(f"batch size {self.batch_size}")
        if self.weight is not None:
            words.append(f"weight {self.weight:g}")
        if self.arm is not None:
            words.append(self.arm)
        return ", ".join(words)


@dataclasses.dataclass(frozen=True)
class PairedChange:
    """How one measure changes with TCM, over pairs.

    Attributes:
        without: Mean without TCM.
        with_tcm: Mean with TCM.
        change: Mean difference, with minus without; of ratios that of the logarithms.
        is_ratio: Whether changes by a factor are what matters. Then the means are
            geometric.
    """

    without: float
    with_tcm: float
    change: Estimate
    is_ratio: bool

    @property
    def shown(self) -> Estimate:
        """The mean difference, or the relative change of the geometric mean."""
        return self.change.map(math.expm1) if self.is_ratio else self.change


def paired_change(
    without: Sequence[float], with_tcm: Sequence[float], is_ratio: bool
) -> PairedChange:
    """Summarise the values of pairs.

    Args:
        without: Values without TCM, above 0.
        with_tcm: The paired values with TCM.
        is_ratio: Whether changes by a factor are what matters. That suits scores that
            are variances, as OPIS is: their errors grow with their size, and a change
            by a factor means the same on every scale.

    Returns:
        The change, with a 95% interval if there are at least two pairs.
    """
    before, after = np.array(without), np.array(with_tcm)
    if not is_ratio:
        return PairedChange(
            float(before.mean()),
            float(after.mean()),
            mean_estimate(after - before),
            is_ratio,
        )
    before, after = np.log(before), np.log(after)
    return PairedChange(
        math.exp(before.mean()),
        math.exp(after.mean()),
        mean_estimate(after - before),
        is_ratio,
    )


def paired_changes(pairs: Iterable[Pair]) -> dict[str, PairedChange]:
    """Summarise each of `MEASURES`.

    Args:
        pairs: Runs without and with TCM.
    """
    without, with_tcm = zip(*pairs, strict=True)
    return {
        name: paired_change(
            [record.measures[name] for record in without],
            [record.measures[name] for record in with_tcm],
            is_ratio,
        )
        for name, is_ratio in MEASURES.items()
    }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One setting with and without TCM.

    Attributes:
        setting: What is trained.
        pairs: Pairs of runs by seed, at least one.
        changes: Change of each of `MEASURES`.
    """

    setting: Setting
    pairs: Mapping[int, Pair]
    changes: Mapping[str, PairedChange]

    @property
    def example(self) -> Run:
        """A run with TCM: all others are the same but for TCM and the seed."""
        return next(iter(self.pairs.values()))[1].run

    @property
    def weight(self) -> float:
        """Weight of TCM, where it is given."""
        assert isinstance(self.example.tcm, TCMSetting)
        return self.example.tcm.weight


@dataclasses.dataclass(frozen=True)
class PartSummary:
    """What one part of a study says.

    Attributes:
        part: Which one.
        comparisons: The settings with a pair, in order of their names; each arm of
            the same models is one.
        missing: Runs that the others lead one to expect, in words.
        unused: Runs without a partner.
        num_expected: Number of settings with and without a pair.
    """

    part: str
    comparisons: list[Comparison]
    missing: list[str]
    unused: list[RunRecord]
    num_expected: int


def summarize(records: Iterable[RunRecord], part: str) -> PartSummary:
    """Pair the runs of one part of a study.

    Expected are all combinations of the data sets, networks, base losses, batch sizes
    (in the sweep) and seeds that occur, without TCM and in each arm that occurs. The
    tuning need not combine everything: what occurs in it is expected with all weights
    and seeds.

    Args:
        records: Runs; those of other parts are passed over.
        part: `"comparison"`, `"tuning"` or `"sweep"`.

    Returns:
        The summary.

    Raises:
        ValueError: If two runs differ only in the file, or the runs of a setting in
            more than TCM and the seed.
    """
    without: dict[tuple[Setting, int], RunRecord] = {}
    with_tcm: dict[tuple[Setting, int], RunRecord] = {}
    for record in records:
        run = record.run
        if run.part == part:
            side = without if run.tcm is None else with_tcm
            key = _setting(run), run.seed
            if key in side:
                raise ValueError(
                    f"{side[key].path} and {record.path} must not both be there: the "
                    "same part, setting and seed"
                )
            side[key] = record

    seeds = sorted({seed for _, seed in (*without, *with_tcm)})
    settings = _expected(part, {setting for setting, _ in (*without, *with_tcm)})
    comparisons = []
    used: set[pathlib.Path] = set()
    # Without doubles, and in order.
    missing: dict[str, None] = {}
    for setting in settings:
        base = setting.base
        pairs = {}
        for seed in seeds:
            first, second = without.get((base, seed)), with_tcm.get((setting, seed))
            if first is None:
                missing[f"{base}, seed {seed}, without TCM"] = None
            if second is None:
                missing[f"{setting}, seed {seed}"] = None
            if first is not None and second is not None:
                pairs[seed] = first, second
                used |= {first.path, second.path}
        if pairs:
            comparisons.append(_compare(setting, pairs))
    runs = [*without.values(), *with_tcm.values()]
    return PartSummary(
        part,
        comparisons,
        list(missing),
        [record for record in runs if record.path not in used],
        len(settings),
    )


def _setting(run: Run) -> Setting:
    cell, tcm = run.cell, run.tcm
    is_tuning = run.part == "tuning"
    return Setting(
        cell.dataset,
        cell.recipe.backbone,
        cell.loss,
        cell.batch_size if run.part == "sweep" else None,
        tcm.weight if is_tuning and isinstance(tcm, TCMSetting) else None,
        None if is_tuning or tcm is None else tcm.arm,
    )


def _expected(part: str, found: set[Setting]) -> list[Setting]:
    """Settings with TCM that the found ones lead one to expect."""
    bases = {dataclasses.astuple(one.base) for one in found}
    if bases and part != "tuning":
        # A column that the part does not vary holds `None` alone.
        bases = set(itertools.product(*map(set, zip(*bases, strict=True))))
    with_tcm = {(one.weight, one.arm) for one in found if one != one.base}
    return [
        dataclasses.replace(Setting(*base), weight=weight, arm=arm)
        for base in sorted(bases)
        for weight, arm in sorted(with_tcm)
    ]


def _compare(setting: Setting, pairs: Mapping[int, Pair]) -> Comparison:
    (_, example), *_ = pairs.values()
    for seed, (before, after) in pairs.items():
        expected = dataclasses.replace(example.run, seed=seed)
        _check_same(example, after, expected)
        _check_same(example, before, dataclasses.replace(expected, tcm=None))
    return Comparison(setting, pairs, paired_changes(pairs.values()))


def _check_same(example: RunRecord, record: RunRecord, expected: Run) -> None:
    if record.run != expected:
        found = record.run.config()
        differing = [
            name for name, value in expected.config().items() if found[name] != value
        ]
        raise ValueError(
            f"{example.path} and {record.path} must be runs of the same setting: they "
            f"differ in {', '.join(differing)}"
        )


@dataclasses.dataclass(frozen=True)
class Count:
    """In how many of several comparisons a measure changes, and which way.

    Attributes:
        better: Better on average.
        worse: Worse on average.
        surely_better: Better, and the interval excludes zero.
        surely_worse: Worse, and the interval excludes zero.
        with_interval: Comparisons that have an interval.
    """

    better: int
    worse: int
    surely_better: int
    surely_worse: int
    with_interval: int


def count_changes(estimates: Sequence[Estimate], is_higher_better: bool) -> Count:
    """Count improvements among the changes of a measure."""
    sign = 1 if is_higher_better else -1
    directions = [
        (sign * np.sign(estimate.value), estimate.excludes_zero)
        for estimate in estimates
    ]
    return Count(
        better=sum(direction > 0 for direction, _ in directions),
        worse=sum(direction < 0 for direction, _ in directions),
        surely_better=sum(direction > 0 and sure for direction, sure in directions),
        surely_worse=sum(direction < 0 and sure for direction, sure in directions),
        with_interval=sum(estimate.interval is not None for estimate in estimates),
    )


def by_arm(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Gather the comparisons of each arm, in the order of their names."""
    arms: dict[str, list[Comparison]] = {}
    for one in comparisons:
        arms.setdefault(one.setting.arm or "", []).append(one)
    return dict(sorted(arms.items()))


def by_base(comparisons: Iterable[Comparison]) -> dict[Setting, dict[str, Comparison]]:
    """Gather the arms of the same models without TCM, in the order given."""
    bases: dict[Setting, dict[str, Comparison]] = {}
    for one in comparisons:
        bases.setdefault(one.setting.base, {})[one.setting.arm or ""] = one
    return bases


def representative(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison with the median change of OPIS; of two, that with more of a fall.

    Args:
        comparisons: At least one.
    """
    ordered = sorted(
        comparisons,
        key=lambda one: (one.changes["opis"].change.value, str(one.setting)),
    )
    return ordered[(len(ordered) - 1) // 2]
