"""Where the parts of a walk over pairs are counted."""

import concurrent.futures
import contextlib
import os
import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from keras_tcm.evaluation.devices import local_devices, on_device
from keras_tcm.evaluation.process_setting import ProcessSetting
from keras_tcm.evaluation.walk_part import PartResult, WalkPart, count_part

# How often Dask counts a part anew that failed, say for want of a file system. Workers
# that died are another matter: see `distributed.scheduler.allowed-failures`.
_RETRIES = 2
# A cluster that grows with the work must see some.
_MIN_PENDING = 8
# Size of a task, in the configuration of Dask.
_WARNING_THRESHOLD = "distributed.admin.large-graph-warning-threshold"


class Executor(Protocol):
    """Counts parts of a walk side by side."""

    def run(self, parts: Iterable[WalkPart]) -> Iterator[PartResult]:
        """Count the parts, which are made as they are needed, in any order."""


class DeviceExecutor:
    """Counts parts on several devices of this process, each on the next free one.

    Args:
        devices: Devices of the Keras backend: see `local_devices`.
    """

    def __init__(self, devices: list[Any]) -> None:
        self._devices = devices

    def run(self, parts: Iterable[WalkPart]) -> Iterator[PartResult]:
        """Count the parts, in any order."""
        free: queue.SimpleQueue = queue.SimpleQueue()
        for device in self._devices:
            free.put(device)

        def count_on_free_device(part: WalkPart) -> PartResult:
            device = free.get()
            try:
                with on_device(device):
                    return part.count()
            finally:
                free.put(device)

        threads = concurrent.futures.ThreadPoolExecutor(len(self._devices))

        def submit(part: WalkPart) -> concurrent.futures.Future:
            return threads.submit(count_on_free_device, part)

        with threads:
            yield from _run(submit, parts, lambda: 2 * len(self._devices))


class ClientExecutor:
    """Counts parts in other processes.

    At most two parts for each worker are under way, since each may hold its vectors.

    Args:
        client: A `dask.distributed.Client` or a `concurrent.futures.Executor`.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is an asynchronous Dask client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._is_dask = hasattr(client, "get_executor")
        if not self._is_dask and not isinstance(client, concurrent.futures.Executor):
            raise TypeError(
                "`client` must be a dask.distributed.Client or a "
                f"concurrent.futures.Executor. Received: client={client!r}"
            )
        if getattr(client, "asynchronous", False):
            raise ValueError(
                "`client` must not be asynchronous: the evaluation waits for it. "
                f"Received: client={client!r}"
            )

    def run(self, parts: Iterable[WalkPart]) -> Iterator[PartResult]:
        """Count the parts, in any order."""
        executor = self._client
        if self._is_dask:
            # Not pure: Dask would go through all vectors to see whether it knows them.
            executor = self._client.get_executor(pure=False, retries=_RETRIES)

        def submit(part: WalkPart) -> concurrent.futures.Future:
            with self._accept_vectors():
                return executor.submit(count_part, part)

        yield from _run(submit, parts, self._num_pending)

    def _num_pending(self) -> int:
        if self._is_dask:
            num_workers = sum(self._client.nthreads().values())
        else:
            num_workers = os.cpu_count() or 1
        return max(2 * num_workers, _MIN_PENDING)

    def _accept_vectors(self) -> contextlib.AbstractContextManager:
        """Keep Dask from warning that the parts hold their vectors."""
        return _LARGE_GRAPHS if self._is_dask else contextlib.nullcontext()


def _read_warning_threshold() -> Any:
    import dask

    return dask.config.get(_WARNING_THRESHOLD)


def _write_warning_threshold(value: Any) -> None:
    import dask

    dask.config.set({_WARNING_THRESHOLD: value})


_LARGE_GRAPHS = ProcessSetting(
    _read_warning_threshold,
    _write_warning_threshold,
    lambda: _write_warning_threshold("1 TiB"),
)


def local_executor() -> Executor | None:
    """What counts on all devices of this process, or `None` if there is but one."""
    devices = local_devices()
    return DeviceExecutor(devices) if len(devices) > 1 else None


def _run(
    submit: Callable[[WalkPart], concurrent.futures.Future],
    parts: Iterable[WalkPart],
    num_pending: Callable[[], int],
) -> Iterator[PartResult]:
    """Submit parts, only so many at a time, and return what has been counted."""
    pending: set[concurrent.futures.Future] = set()
    try:
        for part in parts:
            pending.add(submit(part))
            while len(pending) >= num_pending():
                yield _take_one(pending)
        while pending:
            yield _take_one(pending)
    finally:
        for future in pending:
            future.cancel()


def _take_one(pending: set[concurrent.futures.Future]) -> PartResult:
    """Wait for a result, and forget what holds it."""
    done, _ = concurrent.futures.wait(
        pending, return_when=concurrent.futures.FIRST_COMPLETED
    )
    future = done.pop()
    pending.remove(future)
    return future.result()
