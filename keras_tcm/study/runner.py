"""Runs a study: every training once, in several processes, each to its own file."""

import concurrent.futures
import contextlib
import functools
import json
import math
import multiprocessing
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_tcm
from keras_tcm import datasets
from keras_tcm.evaluation import evaluate_embeddings
from keras_tcm.study.grid import (
    BASE_LOSSES,
    PRESETS,
    Cell,
    Preset,
    Run,
    TCMSetting,
)
from keras_tcm.study.training import embed, train_embedding_model
from keras_tcm.validation import check_choice, check_integer

FORMAT = 1
# Share of the training classes that choose the margins, and so do not train: the last
# ones, which in the embedded sets are whole blocks of characters.
HELD_OUT_SHARE = 0.25
RUNS_PER_PROCESS = 12
# A weight of TCM may cost this much R@1 on the held-out classes, on average.
TOLERATED_LOSS = 0.0025

Record = dict[str, Any]
# Margins and weight of TCM, given those who have been tuned.
ChooseTCM = Callable[[Cell], TCMSetting]


def run_study(
    out: str | os.PathLike[str],
    preset: str | Preset,
    data_dir: str | os.PathLike[str] | None = None,
    seeds: Sequence[int] | None = None,
    workers: int | None = None,
    tcm: TCMSetting | None = None,
) -> None:
    """Train and evaluate every model of a study that `out` does not hold yet.

    Each cell of the grid is first trained on three quarters of the training classes.
    The other quarter tells the margins of TCM, the cosine similarities at which the
    base loss alone has a FAR of 1% (positive margin) and of 10% (negative margin), and
    for each network and base loss, over all data sets, the weight of TCM: that of the
    lowest OPIS (in geometric mean) among those that cost no more than 0.25 points of
    R@1. Then follow the comparison on the test classes, with all seeds, and the sweep
    over losses and batch sizes.

    A run is a JSON file in `out/runs`, written at once when it is finished. Stopped at
    any point, the study goes on where it was when it is called again.

    Args:
        out: Folder to write to; made if missing.
        preset: `"embedded"`, `"paper"` or `"smoke"`, or a grid.
        data_dir: Folder of the data sets, see `keras_tcm.datasets.load`.
        seeds: Seeds of the comparison, integers >= 0. Defaults to those of the preset.
        workers: Processes to train in, which divide the processors among themselves.
            Defaults to one a processor; one where an accelerator does the work.
        tcm: Margins and weight for all cells. Defaults to `None`: chosen as above.

    Raises:
        ValueError: If an argument is out of range, or `out` holds a run of the same
            name from another configuration.
    """
    if not isinstance(preset, Preset):
        check_choice("preset", preset, PRESETS)
        preset = PRESETS[preset]
    seeds = preset.seeds if seeds is None else seeds
    seeds = [check_integer("seeds", seed, 0) for seed in seeds]
    if workers is None:
        has_accelerator = bool(keras.distribution.list_devices("gpu"))
        workers = 1 if has_accelerator else os.cpu_count() or 1
    workers = check_integer("workers", workers, 1)
    threads = max(1, (os.cpu_count() or 1) // workers)
    with _environment(threads):
        runner = _Runner(Path(out) / "runs", data_dir, workers)
        if tcm is None:
            choose = _tune(preset, runner)
        else:
            choose = functools.partial(_given, tcm)
        comparison = [
            Run("comparison", cell, setting, seed)
            # One seed after the other: a study that was cut short has whole ones.
            for seed in seeds
            for cell in preset.cells()
            for setting in (None, choose(cell))
        ]
        sweep = [
            Run("sweep", cell, setting, preset.seeds[0])
            for cell in preset.sweep_cells()
            for setting in (None, choose(cell))
        ]
        runner.run("comparison and sweep", comparison + sweep)


def _given(tcm: TCMSetting, cell: Cell) -> TCMSetting:
    return tcm


def _tune(preset: Preset, runner: "_Runner") -> ChooseTCM:
    """Choose margins and weights on held-out training classes."""
    seed = preset.seeds[0]
    cells = list(preset.tuning_cells())
    plain = dict(
        zip(
            cells,
            runner.run("margins", [Run("tuning", cell, None, seed) for cell in cells]),
            strict=True,
        )
    )
    trials = {
        (cell, weight): Run("tuning", cell, _margins(plain[cell], weight), seed)
        for cell in cells
        for weight in preset.weights
    }
    tried = dict(zip(trials, runner.run("weights", list(trials.values())), strict=True))

    groups: dict[tuple[Any, str], list[Cell]] = {}
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
        (cell.dataset, cell.recipe, cell.loss): _margins(
            plain[cell], chosen[cell.recipe, cell.loss]
        )
        for cell in cells
    }
    return lambda cell: settings[cell.dataset, cell.recipe, cell.loss]


def _margins(record: Record, weight: float) -> TCMSetting:
    """Margins that bracket the similarities at which a model decides."""
    nearest, farthest = record["evaluation"]["calibration_range"]
    return TCMSetting(round(1 - nearest, 3), round(1 - farthest, 3), weight)


def choose_weight(trials: dict[float, list[tuple[Record, Record]]]) -> float:
    """Choose the weight of TCM by models without and with it.

    Args:
        trials: For each weight, pairs of records of runs on held-out classes.

    Returns:
        The weight of the lowest OPIS, in geometric mean, among those that lose at most
        `TOLERATED_LOSS` of R@1 in the mean; the smallest weight if all lose more.
    """
    consistency = {}
    for weight, pairs in trials.items():
        evaluations = [(a["evaluation"], b["evaluation"]) for a, b in pairs]
        gains = [b["recall"]["1"] - a["recall"]["1"] for a, b in evaluations]
        if np.mean(gains) >= -TOLERATED_LOSS:
            ratios = [math.log(b["opis"] / a["opis"]) for a, b in evaluations]
            consistency[weight] = np.mean(ratios)
    return min(consistency, key=consistency.__getitem__, default=min(trials))


class _Runner:
    """Does runs in several processes, and tells how long it will take."""

    def __init__(
        self, folder: Path, data_dir: str | os.PathLike[str] | None, workers: int
    ) -> None:
        self._folder = folder
        self._data_dir = None if data_dir is None else str(data_dir)
        self._workers = workers
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*.part"):
            partial.unlink()

    def run(self, what: str, runs: Sequence[Run]) -> list[Record]:
        """Return the records of runs, after doing those that are missing."""
        paths = {run: self._folder / f"{run.name}.json" for run in runs}
        done = {run: read_run(path, run) for run, path in paths.items()}
        missing = [run for run, record in done.items() if record is None]
        print(
            f"{what}: {len(runs)} runs, {len(runs) - len(missing)} of them finished",
            flush=True,
        )
        start = time.monotonic()
        number = 0
        while number < len(missing):
            # Backends do not give back all of the memory of a training, so processes
            # are replaced now and then.
            some = missing[number : number + RUNS_PER_PROCESS * self._workers]
            for run, record in self._run_in_pool({run: paths[run] for run in some}):
                number += 1
                done[run] = record
                rest = (time.monotonic() - start) / number * (len(missing) - number)
                print(
                    f"[{number}/{len(missing)}] {run.name}: {_in_short(record)}; "
                    f"{rest / 60:.0f} min left",
                    flush=True,
                )
        return [done[run] for run in runs]  # type: ignore[misc]

    def _run_in_pool(self, paths: dict[Run, Path]) -> Iterator[tuple[Run, Record]]:
        """Do runs in new processes, and yield each with its record."""
        pool = concurrent.futures.ProcessPoolExecutor(
            self._workers, multiprocessing.get_context("spawn"), _end_with_parent
        )
        try:
            futures = {
                pool.submit(do_run, run, path, self._data_dir): run
                for run, path in paths.items()
            }
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _in_short(record: Record) -> str:
    evaluation = record["evaluation"]
    return (
        f"R@1 {evaluation['recall']['1']:.4f}, OPIS {evaluation['opis']:.6f}, "
        f"{sum(record['seconds'].values()):.0f} s"
    )


def _end_with_parent() -> None:
    """Let this process end when its parent does, however that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Let new processes have the backend of this one and so many threads."""
    settings = {
        "KERAS_BACKEND": keras.backend.backend(),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **dict.fromkeys(
            (
                "OMP_NUM_THREADS",
                "OPENBLAS_NUM_THREADS",
                "MKL_NUM_THREADS",
                "NUMBA_NUM_THREADS",
                "TF_NUM_INTRAOP_THREADS",
                "TF_NUM_INTEROP_THREADS",
                "NPROC",  # Read by XLA on a CPU.
            ),
            str(threads),
        ),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def read_run(path: Path, run: Run) -> Record | None:
    """Read what a run has written.

    Args:
        path: Its file.
        run: The run.

    Returns:
        The record, or `None` if there is no such file.

    Raises:
        ValueError: If the file does not hold a record of that run.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    found = record.get("config") if isinstance(record, dict) else None
    expected = json.loads(json.dumps(run.config()))
    if found != expected:
        raise ValueError(
            f"{path} must hold a run of this study, {expected}. Received: {found}. "
            "Choose another folder, or delete the file."
        )
    return record


def do_run(run: Run, path: Path, data_dir: str | None) -> Record:
    """Train and evaluate one model, and write its record.

    Args:
        run: What to do.
        path: File to write.
        data_dir: Folder of the data sets.

    Returns:
        The record.
    """
    x, y, x_eval, y_eval = _split(run, data_dir)
    loss = BASE_LOSSES[run.cell.loss]()
    if run.tcm is not None:
        loss = run.tcm.add_to(loss)
    start = time.perf_counter()
    keras.utils.clear_session()
    model, history = train_embedding_model(
        x,
        y,
        loss,
        run.cell.steps,
        run.seed,
        run.cell.recipe,
        run.cell.batch_size,
    )
    trained = time.perf_counter()
    embeddings = embed(model, x_eval)
    evaluation = evaluate_embeddings(embeddings, y_eval, verbose=False)
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    record = {
        "format": FORMAT,
        "part": run.part,
        "config": run.config(),
        "versions": _versions(),
        "backend": keras.backend.backend(),
        "machine": f"{platform.machine()}, {threads} threads",
        "seconds": {
            "training": round(trained - start, 1),
            "evaluation": round(time.perf_counter() - trained, 1),
        },
        "history": history,
        "evaluation": evaluation.to_dict(),
    }
    _write(path, record)
    # As it will be read.
    return json.loads(json.dumps(record))


def _split(
    run: Run, data_dir: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what to train and what to evaluate on: samples and labels of each."""
    (x, y), (x_test, y_test) = _data(run.cell.dataset, data_dir)
    if run.part != "tuning":
        return x, y, x_test, y_test
    is_held_out = held_out(y)
    return x[~is_held_out], y[~is_held_out], x[is_held_out], y[is_held_out]


def held_out(y: np.ndarray) -> np.ndarray:
    """Tell which training samples choose margins: the last quarter of the classes.

    Args:
        y: Labels of shape `(n,)`.

    Returns:
        Boolean array of shape `(n,)`.
    """
    classes = np.unique(y)
    return y >= classes[-max(2, round(HELD_OUT_SHARE * len(classes)))]


@functools.lru_cache(maxsize=1)
def _data(name: str, data_dir: str | None) -> Any:
    return datasets.load(name, data_dir)


def _versions() -> dict[str, str]:
    packages: Iterable[str] = {
        "tensorflow": ("tensorflow", "tensorflow-cpu"),
        "jax": ("jax", "jaxlib"),
        "torch": ("torch",),
    }[keras.backend.backend()]
    versions = {
        "keras_tcm": keras_tcm.__version__,
        "python": platform.python_version(),
    }
    for package in ("keras", "numpy", *packages):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _write(path: Path, record: Record) -> None:
    """Write under another name and rename: readers never see half a file."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    partial.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    os.replace(partial, path)
