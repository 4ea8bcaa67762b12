"""Finished runs: what is written of them, and what is read."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any, TypeVar, get_type_hints

import keras

import keras_tcm
from keras_tcm.evaluation import Evaluation
from keras_tcm.files import write_text
from keras_tcm.study.grid import PARTS, AutoTCMSetting, Cell, Run, TCMSetting
from keras_tcm.study.training import Recipe

T = TypeVar("T")

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What others need to know of a finished run; the curves stay in the file.

    Attributes:
        path: The file.
        run: What was trained, and how.
        versions: Version of Python and of each package.
        backend: Name of the Keras backend.
        machine: Where it ran.
        seconds: How long the training took.
        measures: `"recall_at_1"`, `"opis"` and `"epsilon_opis"`, all above 0.
        epsilon: Share of classes that count as worst.
        calibration_range: Distances at which the global FAR bounds the range of OPIS.
        notes: What else was kept.
    """

    path: pathlib.Path
    run: Run
    versions: Mapping[str, str]
    backend: str
    machine: str
    seconds: float
    measures: Mapping[str, float]
    epsilon: float
    calibration_range: tuple[float, float]
    notes: Mapping[str, Any]

    def evaluation(self) -> Evaluation:
        """Read the whole evaluation from the file."""
        values = json.loads(self.path.read_text(encoding="utf-8"))["evaluation"]
        try:
            return Evaluation.from_dict(values)
        except (ValueError, TypeError, KeyError) as error:
            raise _error(self.path, "`evaluation` is damaged") from error

    def in_short(self) -> str:
        """Say in a line what came out, and how long it took."""
        return (
            f"R@1 {self.measures['recall_at_1']:.4f}, "
            f"OPIS {self.measures['opis']:.6f}, {self.seconds:.0f} s"
        )


def write_run(
    path: pathlib.Path,
    run: Run,
    evaluation: Evaluation,
    history: Mapping[str, list[float]],
    seconds: Mapping[str, float],
    notes: Mapping[str, Any],
) -> None:
    """Write the record of a run that this process has done.

    Args:
        path: Its file.
        run: What was trained, and how.
        evaluation: The evaluation.
        history: Loss and learning rate over the training.
        seconds: Duration of the `"training"` and of the `"evaluation"`.
        notes: Anything else to keep, ready for JSON.
    """
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    values = {
        "format": _FORMAT,
        "part": run.part,
        "config": run.config(),
        "versions": package_versions(),
        "backend": keras.backend.backend(),
        "machine": f"{platform.machine()}, {threads} threads",
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "history": history,
        "evaluation": evaluation.to_dict(),
        **({"notes": notes} if notes else {}),
    }
    write_text(path, json.dumps(values, allow_nan=False))


def package_versions() -> dict[str, str]:
    """Version of Python, and of each package that the numbers depend on."""
    packages = {
        "tensorflow": ("tensorflow", "tensorflow-cpu"),
        "jax": ("jax", "jaxlib"),
        "torch": ("torch",),
    }[keras.backend.backend()]
    found = {
        "keras_tcm": keras_tcm.__version__,
        "python": platform.python_version(),
    }
    for package in ("keras", "numpy", *packages):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


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
        raise _error(path, f"not JSON ({error})") from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise _error(path, f'no `"format": {_FORMAT}`')
    try:
        return _record(path, values)
    except KeyError as error:
        raise _error(path, f"`{error.args[0]}` is missing") from error
    except (TypeError, ValueError) as error:
        raise _error(path, str(error)) from error


def _record(path: pathlib.Path, values: dict[str, Any]) -> RunRecord:
    run = _run(values)
    evaluation = _get(values, "evaluation", dict)
    if evaluation["format"] != "keras_tcm.Evaluation":
        raise ValueError("`evaluation` must be that of `Evaluation.to_dict`")
    low, high = map(float, _get(evaluation, "calibration_range", list))
    return _typed(
        RunRecord,
        values,
        path=path,
        run=run,
        versions=_get(values, "versions", dict),
        seconds=_get(_get(values, "seconds", dict), "training", float),
        measures={
            # Ratios are reported, which take numbers above 0.
            "recall_at_1": _positive(_get(evaluation, "recall", dict), "1"),
            "opis": _positive(evaluation, "opis"),
            "epsilon_opis": _positive(evaluation, "epsilon_opis"),
        },
        epsilon=_positive(evaluation, "epsilon"),
        calibration_range=(low, high),
        notes=_get({"notes": {}, **values}, "notes", dict),
    )


def _run(values: dict[str, Any]) -> Run:
    config, part = _get(values, "config", dict), _get(values, "part", str)
    if part not in PARTS:
        raise ValueError(f"`part` must be one of {', '.join(PARTS)}: {part!r}")
    tcm = config["tcm"]
    if tcm is not None:
        tcm = _get(config, "tcm", dict)
        tcm = _typed(AutoTCMSetting if "strength" in tcm else TCMSetting, tcm)
    run = _typed(
        Run,
        config,
        part=part,
        cell=_typed(Cell, config, recipe=_typed(Recipe, config)),
        tcm=tcm,
    )
    unknown = config.keys() - run.config().keys()
    if unknown:
        raise ValueError(f"no run has the settings {', '.join(sorted(unknown))}")
    return run


def _typed(kind: type[T], values: Mapping[str, Any], **made: Any) -> T:
    """Make a value of a dataclass from values of its fields' types.

    Args:
        kind: The dataclass.
        values: Values by the name of the field, among others.
        made: Fields that are not taken from there.
    """
    for name, of_field in get_type_hints(kind).items():
        if name not in made:
            made[name] = _get(values, name, of_field)
    return kind(**made)


def _get(values: Mapping[str, Any], key: str, kind: Any) -> Any:
    value = values[key]
    # JSON may write 2.0 as 2, and what is true is no number.
    fits = isinstance(value, float | int if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"`{key}` has the wrong type: {value!r:.50}")
    return value


def _positive(values: Mapping[str, Any], key: str) -> float:
    value = float(_get(values, key, float))
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`{key}` must be above 0: {value}")
    return value


def _error(path: pathlib.Path, reason: str) -> ValueError:
    return ValueError(f"{path} does not hold a run of a study: {reason}")
