"""How to go through pairs, and where: on devices of this process or in others."""

import concurrent.futures
import contextlib
import dataclasses
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import keras

from keras_tcm.evaluation._inputs.pair_space import PairSpace
from keras_tcm.evaluation._walk.device import local_devices, on_device
from keras_tcm.evaluation.precision import ProcessSetting

# With verbose="auto", a progress bar appears from this many pairs on (some seconds).
_LONG_RUN_PAIRS = 10**9
# How often Dask counts a part anew that failed, say for want of a file system. Workers
# that died are another matter: see `distributed.scheduler.allowed-failures`.
_RETRIES = 2
# Parts under way, at least and at most: a cluster that grows with the work must see
# some, and an executor may call running what waits in a queue of its own.
_MIN_PENDING = 8
_MAX_PENDING = 256
# Size of a task, in the configuration of Dask.
_WARNING_THRESHOLD = "distributed.admin.large-graph-warning-threshold"

# A part of the work: something without arguments that can be called, and pickled.
Part = Callable[[], Any]


class Executor(Protocol):
    """Does parts of the work side by side."""

    def run(self, parts: Iterable[Part]) -> Iterator[Any]:
        """Return what each part returns, in any order; parts are made as needed."""


class DeviceExecutor:
    """Does parts on several of `local_devices`, each on the next free one."""

    def __init__(self, devices: list[Any]) -> None:
        self._devices = devices

    def run(self, parts: Iterable[Part]) -> Iterator[Any]:
        """Return what each part returns, in any order."""
        free: queue.SimpleQueue = queue.SimpleQueue()
        for device in self._devices:
            free.put(device)

        def on_free_device(part: Part) -> Any:
            device = free.get()
            try:
                with on_device(device):
                    return part()
            finally:
                free.put(device)

        with concurrent.futures.ThreadPoolExecutor(len(self._devices)) as threads:
            yield from _run(
                lambda part: threads.submit(on_free_device, part),
                parts,
                lambda pending: 2 * len(self._devices),
            )


class ClientExecutor:
    """Has parts done in other processes.

    About two parts for each worker are under way, since each may hold its vectors. What
    a pool does not tell, its futures do: as many workers as parts are running.

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

    def run(self, parts: Iterable[Part]) -> Iterator[Any]:
        """Return what each part returns, in any order."""
        executor = self._client
        if self._is_dask:
            # Not pure: Dask would go through all vectors to see whether it knows them.
            executor = self._client.get_executor(pure=False, retries=_RETRIES)

        # Dask would warn that the parts hold their vectors.
        setting = _LARGE_GRAPHS if self._is_dask else contextlib.nullcontext()

        def submit(part: Part) -> concurrent.futures.Future:
            with setting:
                return executor.submit(_call, part)

        yield from _run(submit, parts, self._most_pending)

    def _most_pending(self, pending: set[concurrent.futures.Future]) -> int:
        if self._is_dask:
            num_workers = sum(self._client.nthreads().values())
            return max(2 * num_workers, _MIN_PENDING)
        num_workers = sum(future.running() for future in pending)
        return min(max(2 * num_workers, _MIN_PENDING), _MAX_PENDING)


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


def check_backend(expected: str) -> None:
    """Raise unless this process has the backend of the one that made a part."""
    backend = keras.backend.backend()
    if backend != expected:
        raise RuntimeError(
            "`client` must have workers with the Keras backend of this process, "
            f"{expected!r}: set KERAS_BACKEND in their environment. "
            f"Received: a worker with {backend!r}"
        )


def local_executor() -> Executor | None:
    """What counts on all devices of this process, or `None` if there is but one."""
    devices = local_devices()
    return DeviceExecutor(devices) if len(devices) > 1 else None


def _call(part: Part) -> Any:
    return part()


def _run(
    submit: Callable[[Part], concurrent.futures.Future],
    parts: Iterable[Part],
    most_pending: Callable[[set[concurrent.futures.Future]], int],
) -> Iterator[Any]:
    """Submit parts, only so many at a time, and return what they return."""
    pending: set[concurrent.futures.Future] = set()
    try:
        for part in parts:
            pending.add(submit(part))
            while len(pending) >= most_pending(pending):
                yield _take_one(pending)
        while pending:
            yield _take_one(pending)
    finally:
        for future in pending:
            future.cancel()


def _take_one(pending: set[concurrent.futures.Future]) -> Any:
    """Wait for a result, and forget what holds it."""
    done, _ = concurrent.futures.wait(
        pending, return_when=concurrent.futures.FIRST_COMPLETED
    )
    future = done.pop()
    pending.remove(future)
    return future.result()


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to go through pairs, whatever is counted.

    Attributes:
        ks: Ranks that recall is asked for, none above the size of the gallery.
        max_pairs: Number of pairs to compare, at most; `None` for all.
        seed: Seed of a sample of the pairs.
        block_size: Side of a tile, or `None` to choose it.
        executor: Counts parts side by side; `None` for all devices of this process.
        device: Where pairs are counted: one of `DEVICES`, for each of those who do it.
        shows_progress: Whether each walk shows a progress bar.
    """

    ks: tuple[int, ...]
    max_pairs: int | None = None
    seed: int = 0
    block_size: int | None = None
    executor: Executor | None = None
    device: str = "auto"
    shows_progress: bool = False


def plan_for(
    space: PairSpace,
    recall_at: Sequence[int],
    max_pairs: int | None = None,
    seed: int = 0,
    block_size: int | None = None,
    executor: Executor | None = None,
    device: str = "auto",
    verbose: bool | str = "auto",
) -> Plan:
    """Plan how to go through the pairs of a space; see `evaluate_embeddings`."""
    num_pairs = space.num_pairs
    if max_pairs is not None and max_pairs >= num_pairs:
        max_pairs = None
    if verbose == "auto":
        verbose = (max_pairs or num_pairs) >= _LONG_RUN_PAIRS
    # A k may exceed every integer type.
    ks = tuple(min(k, space.gallery.size) for k in recall_at)
    return Plan(ks, max_pairs, seed, block_size, executor, device, bool(verbose))
