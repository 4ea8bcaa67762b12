"""Runs a study: every training once, in several processes, each to its own file."""

import concurrent.futures
import functools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_tcm import datasets
from keras_tcm.evaluation import evaluate_embeddings
from keras_tcm.study.grid import (
    BASE_LOSSES,
    PRESETS,
    AutoTCMSetting,
    Preset,
    Run,
    TCMSetting,
)
from keras_tcm.study.run_record import RunRecord, read_run, write_run
from keras_tcm.study.training import embed, train_embedding_model
from keras_tcm.study.tuning import held_out, tune
from keras_tcm.study.workers import worker_processes
from keras_tcm.validation import check_choice, check_integer

RUNS_PER_PROCESS = 12


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
    over losses and batch sizes: without TCM, with TCM as chosen, and with `AutoTCM`,
    for which nothing is chosen.

    A run is a JSON file in `out/runs`, written at once when it is finished. Stopped at
    any point, the study goes on where it was when it is called again.

    Args:
        out: Folder to write to; made if missing.
        preset: `"embedded"`, `"found"`, `"paper"` or `"smoke"`, or a grid.
        data_dir: Folder of the data sets, see `keras_tcm.datasets.load`.
        seeds: Seeds of the comparison, integers >= 0. Defaults to those of the preset.
        workers: Processes to train in, which divide the processors among themselves.
            Defaults to one a processor; one where an accelerator does the work.
        tcm: Margins and weight of TCM for all cells. Defaults to `None`: chosen as
            above.

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
        workers = 1 if _has_accelerator() else os.cpu_count() or 1
    workers = check_integer("workers", workers, 1)
    folder = Path(out) / "runs"
    prepare_folder(folder)
    data_dir = None if data_dir is None else str(data_dir)
    do_runs = functools.partial(_do_runs, folder, data_dir, workers)
    choose = tune(preset, do_runs) if tcm is None else lambda cell: tcm
    comparison = [
        Run("comparison", cell, setting, seed)
        # One seed after the other: a study that was cut short has whole ones.
        for seed in seeds
        for cell in preset.cells()
        for setting in (None, choose(cell), AutoTCMSetting())
    ]
    sweep = [
        Run("sweep", cell, setting, preset.seeds[0])
        for cell in preset.sweep_cells()
        for setting in (None, choose(cell), AutoTCMSetting())
    ]
    do_runs("comparison and sweep", comparison + sweep)


def _do_runs(
    folder: Path, data_dir: str | None, workers: int, what: str, runs: Sequence[Run]
) -> list[RunRecord]:
    """Return the records of runs, after doing those that are missing.

    Args:
        folder: Where the records are.
        data_dir: Folder of the data sets.
        workers: Processes to train in.
        what: What for, in words.
        runs: The runs.
    """
    done = {run: read_done(run.path(folder), run) for run in runs}
    missing = [run for run, record in done.items() if record is None]
    print(
        f"{what}: {len(runs)} runs, {len(runs) - len(missing)} of them finished",
        flush=True,
    )
    start = time.monotonic()
    number = 0
    while number < len(missing):
        # Backends do not give back all of the memory of a training, so processes are
        # replaced now and then.
        some = missing[number : number + RUNS_PER_PROCESS * workers]
        with worker_processes(workers, _threads(workers)) as submit:
            futures = {
                submit(do_run, run, run.path(folder), data_dir): run for run in some
            }
            for future in concurrent.futures.as_completed(futures):
                future.result()
                run = futures[future]
                number += 1
                record = done[run] = read_run(run.path(folder))
                rest = (time.monotonic() - start) / number * (len(missing) - number)
                print(
                    f"[{number}/{len(missing)}] {run.name}: {record.in_short()}; "
                    f"{rest / 60:.0f} min left",
                    flush=True,
                )
    return [done[run] for run in runs]  # type: ignore[misc]


def prepare_folder(folder: Path) -> None:
    """Make a folder of records, or remove what was cut short from it."""
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob("*.part"):
        partial.unlink()


def _has_accelerator() -> bool:
    # Keras does not list the devices of torch.
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    return bool(keras.distribution.list_devices("gpu"))


def _threads(workers: int) -> dict[str, str]:
    """Variables that divide the processors among processes."""
    names = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "NPROC",  # Read by XLA on a CPU.
    )
    return dict.fromkeys(names, str(max(1, (os.cpu_count() or 1) // workers)))


def read_done(path: Path, run: Run) -> RunRecord | None:
    """Read what a run has written.

    Args:
        path: Its file.
        run: The run.

    Returns:
        The record, or `None` if there is no such file.

    Raises:
        ValueError: If the file does not hold a record of that run.
    """
    if not path.exists():
        return None
    record = read_run(path)
    if record.run != run:
        raise ValueError(
            f"{path} must hold a run of this study, {run.config()}. Received: "
            f"{record.run.config()}. Choose another folder, or delete the file."
        )
    return record


def do_run(
    run: Run,
    path: Path,
    data_dir: str | None,
    notes: Mapping[str, Any] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train and evaluate one model, and write its record.

    Args:
        run: What to do.
        path: File to write.
        data_dir: Folder of the data sets.
        notes: Anything else to keep in the record, ready for JSON.
        callbacks: Callbacks of the training. If one raises, nothing is written.
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
        callbacks=callbacks,
    )
    trained = time.perf_counter()
    embeddings = embed(model, x_eval)
    evaluation = evaluate_embeddings(embeddings, y_eval, verbose=False)
    evaluated = time.perf_counter()
    write_run(
        path,
        run,
        evaluation,
        history,
        {"training": trained - start, "evaluation": evaluated - trained},
        notes or {},
    )


def _split(
    run: Run, data_dir: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what to train and what to evaluate on: samples and labels of each."""
    (x, y), (x_test, y_test) = _data(run.cell.dataset, data_dir)
    if run.part != "tuning":
        return x, y, x_test, y_test
    is_held_out = held_out(y)
    return x[~is_held_out], y[~is_held_out], x[is_held_out], y[is_held_out]


@functools.lru_cache(maxsize=1)
def _data(name: str, data_dir: str | None) -> Any:
    return datasets.load(name, data_dir)
