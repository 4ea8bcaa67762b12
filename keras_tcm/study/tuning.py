"""The choice of TCM's margins and weight, on training classes that do not train."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_tcm.study.grid import Cell, Preset, Run, TCMSetting
from keras_tcm.study.run_record import RunRecord
from keras_tcm.study.summary import Pair, paired_changes
from keras_tcm.study.training import Recipe

# Share of the training classes that choose the margins, and so do not train: the last
# ones, which in the embedded sets are whole blocks of characters.
HELD_OUT_SHARE = 0.25
# A weight of TCM may cost this much R@1 on the held-out classes, on average.
TOLERATED_LOSS = 0.0025

# Does what is missing of some runs, and returns the records of all.
DoRuns = Callable[[str, Sequence[Run]], list[RunRecord]]
# Margins and weight of TCM for a comparison.
ChooseTCM = Callable[[Cell], TCMSetting]


def tune(preset: Preset, do_runs: DoRuns) -> ChooseTCM:
    """Choose margins for each cell, and a weight for each network and base loss.

    Args:
        preset: The grid.
        do_runs: Trains and evaluates, given what for, in words, and the runs.

    Returns:
        What gives the choice for a cell.
    """
    seed = preset.seeds[0]
    cells = list(preset.tuning_cells())
    runs = [Run("tuning", cell, None, seed) for cell in cells]
    plain = dict(zip(cells, do_runs("margins", runs), strict=True))
    trials = {
        (cell, weight): Run("tuning", cell, margins(plain[cell], weight), seed)
        for cell in cells
        for weight in preset.weights
    }
    tried = dict(zip(trials, do_runs("weights", list(trials.values())), strict=True))

    groups: dict[tuple[Recipe, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.recipe, cell.loss), []).append(cell)
    chosen = {
        group: choose_weight(
            {
                weight: [(plain[cell], tried[cell, weight]) for cell in members]
                for weight in preset.weights
            }
        )
        for group, members in groups.items()
    }
    settings = {
        cell.tuned_for: margins(plain[cell], chosen[cell.recipe, cell.loss])
        for cell in cells
    }
    return lambda cell: settings[cell.tuned_for]


def margins(plain: RunRecord, weight: float) -> TCMSetting:
    """Margins that bracket the similarities at which a model decides.

    Args:
        plain: A run without TCM.
        weight: Weight to go with them.
    """
    nearest, farthest = plain.calibration_range
    return TCMSetting(round(1 - nearest, 3), round(1 - farthest, 3), weight)


def choose_weight(trials: Mapping[float, Sequence[Pair]]) -> float:
    """Choose the weight of TCM by models without and with it.

    Args:
        trials: For each weight, pairs of runs on held-out classes.

    Returns:
        The weight of the lowest OPIS, in geometric mean, among those that lose at most
        `TOLERATED_LOSS` of R@1 in the mean; the smallest weight if all lose more.
    """
    consistency = {}
    for weight, pairs in trials.items():
        changes = paired_changes(pairs)
        if changes["recall_at_1"].change.value >= -TOLERATED_LOSS:
            consistency[weight] = changes["opis"].change.value
    return min(consistency, key=consistency.__getitem__, default=min(trials))


def held_out(y: np.ndarray) -> np.ndarray:
    """Tell which training samples choose margins: the last quarter of the classes.

    Args:
        y: Labels of shape `(n,)`.

    Returns:
        Boolean array of shape `(n,)`.
    """
    classes = np.unique(y)
    return y >= classes[-max(2, round(HELD_OUT_SHARE * len(classes)))]
