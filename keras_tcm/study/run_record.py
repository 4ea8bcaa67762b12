"""The runs of a study, read from its folder."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_tcm.evaluation import Evaluation

PARTS = ("comparison", "tuning", "sweep")
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a report needs to know of one run; the curves stay in the file.

    Attributes:
        path: The file.
        part: `"comparison"`, `"tuning"` or `"sweep"`.
        config: What was trained, and how.
        versions: Version of each package.
        backend: Name of the Keras backend.
        machine: Where it ran.
        seconds: How long the training took.
        measures: `"recall_at_1"`, `"opis"` and `"epsilon_opis"`, all above 0.
        epsilon: Share of classes that count as worst.
        calibration_range: Distances at which the global FAR bounds the range of OPIS.
        notes: What else was kept.
    """

    path: pathlib.Path
    part: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    backend: str
    machine: str
    seconds: float
    measures: Mapping[str, float]
    epsilon: float
    calibration_range: tuple[float, float]
    notes: Mapping[str, Any]

    @property
    def weight(self) -> float | None:
        """Weight of TCM beside the base loss; `None` without TCM."""
        tcm = self.config["tcm"]
        return None if tcm is None else tcm["weight"]

    def evaluation(self) -> Evaluation:
        """Read the whole evaluation from the file."""
        values = json.loads(self.path.read_text(encoding="utf-8"))["evaluation"]
        try:
            return Evaluation.from_dict(values)
        except (ValueError, TypeError, KeyError):
            raise _error(self.path, "`evaluation` is damaged") from None


def read_runs(directory: pathlib.Path) -> list[RunRecord]:
    """Read all runs of a study.

    Args:
        directory: Folder of the study; its runs are `runs/*.json` in it.

    Returns:
        The runs, by file name.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If there are none, or a file does not hold one.
    """
    paths = sorted(directory.glob("runs/*.json"))
    if not paths:
        raise ValueError(
            f"`directory` must hold runs of a study, runs/*.json. "
            f"Received: directory={str(directory)!r}"
        )
    records = [read_run(path) for path in paths]
    for record in records:
        if record.epsilon != records[0].epsilon:
            raise _error(
                record.path,
                f"its epsilon is {record.epsilon}, but that of {records[0].path.name} "
                f"is {records[0].epsilon}",
            )
    return records


def read_run(path: pathlib.Path) -> RunRecord:
    """Read one run.

    Args:
        path: Its file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it does not hold a run; the message names it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _error(path, f"not JSON ({error})") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise _error(path, f'no `"format": {FORMAT}`')
    try:
        return _record(path, values)
    except KeyError as error:
        raise _error(path, f"`{error.args[0]}` is missing") from None
    except (TypeError, ValueError) as error:
        raise _error(path, str(error)) from None


def _record(path: pathlib.Path, values: dict[str, Any]) -> RunRecord:
    config = _get(values, "config", dict)
    for key in "dataset", "backbone", "loss":
        _get(config, key, str)
    for key in "batch_size", "steps", "seed":
        _get(config, key, int)
    if config["tcm"] is not None:
        tcm = _get(config, "tcm", dict)
        for key in "positive_margin", "negative_margin", "weight":
            _get(tcm, key, float | int)
    part = _get(values, "part", str)
    if part not in PARTS:
        raise ValueError(f"`part` must be one of {', '.join(PARTS)}: {part!r}")
    evaluation = _get(values, "evaluation", dict)
    if evaluation["format"] != "keras_tcm.Evaluation":
        raise ValueError("`evaluation` must be that of `Evaluation.to_dict`")
    recall = _get(evaluation, "recall", dict)
    return RunRecord(
        path=path,
        part=part,
        config=config,
        versions=_get(values, "versions", dict),
        backend=_get(values, "backend", str),
        machine=_get(values, "machine", str),
        seconds=_get(_get(values, "seconds", dict), "training", float | int),
        measures={
            # Ratios are reported, which take numbers above 0.
            "recall_at_1": _positive(recall, "1"),
            "opis": _positive(evaluation, "opis"),
            "epsilon_opis": _positive(evaluation, "epsilon_opis"),
        },
        epsilon=_positive(evaluation, "epsilon"),
        calibration_range=_range(evaluation, "calibration_range"),
        notes=_get({"notes": {}, **values}, "notes", dict),
    )


def _get(values: Mapping[str, Any], key: str, kind: Any) -> Any:
    value = values[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"`{key}` has the wrong type: {value!r:.50}")
    return value


def _positive(values: Mapping[str, Any], key: str) -> float:
    value = float(_get(values, key, float | int))
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`{key}` must be above 0: {value}")
    return value


def _range(values: Mapping[str, Any], key: str) -> tuple[float, float]:
    low, high = map(float, _get(values, key, list))
    return low, high


def _error(path: pathlib.Path, reason: str) -> ValueError:
    return ValueError(f"{path} does not hold a run of a study: {reason}")
