"""Processes to train in, which start with an environment of their own."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import keras

# The allocator of glibc gives large blocks back to the system when they are freed, and
# a training step on a CPU then fetches them again page by page. With these it keeps
# them. It reads them when a process starts, so they cannot be set from inside; other
# systems ignore them. Versions that refuse so high a threshold for `mmap` obey the
# limit on the number of such blocks.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "268435456",
}

Submit = Callable[..., Future[Any]]


@contextlib.contextmanager
def worker_processes(
    number: int, environment: Mapping[str, str] | None = None
) -> Iterator[Submit]:
    """Start processes that have the backend of this one, and keep freed memory.

    They end with the block, at once if by an exception, and with this process, however
    it ends. Ctrl-C reaches this process alone.

    Args:
        number: How many.
        environment: Variables for them, beside those of this process. A variable of
            `ALLOCATOR` that this process has stays as it is.

    Yields:
        A function that lets a process call a function, given the arguments, and
        returns a future.
    """
    variables = {
        "KERAS_BACKEND": keras.backend.backend(),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **{name: os.environ.get(name, value) for name, value in ALLOCATOR.items()},
        **(environment or {}),
    }
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        number, multiprocessing.get_context("spawn"), _end_with_parent
    )

    def submit(function: Callable[..., Any], *args: Any) -> Future[Any]:
        # This is what starts a process.
        with _environment(variables), _deaf_to_interrupts():
            return pool.submit(function, *args)

    try:
        yield submit
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when its parent does, however that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Let processes that are started meanwhile have these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started meanwhile never see a Ctrl-C.

    A signal that comes meanwhile reaches this process afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
