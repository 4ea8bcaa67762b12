"""Batches that workers make ahead of their turn."""

import random
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import keras

from keras_tcm.validation import check_choice, check_integer


class WorkerDataset(keras.utils.PyDataset):
    """A dataset each batch of which is a function of its epoch and index.

    Keras' own workers do not know epochs: what they hold when Keras turns away from an
    epoch, as it does after one batch to build the model, they hand out in the next.
    These are asked for a batch by epoch and index, and Keras sees none of them.

    Subclasses have `__len__` and `_make_batch`.

    Args:
        workers: Integer, number of workers. Up to 1, batches are made when they are
            asked for, unless `use_multiprocessing` is set. Defaults to 1.
        use_multiprocessing: Whether workers are processes. Defaults to `False`:
            threads.
        max_queue_size: Integer, number of batches that may be made ahead of their
            turn. Defaults to 10.
    """

    def __init__(
        self,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
    ) -> None:
        super().__init__()
        workers = check_integer("workers", workers, 0)
        check_choice("use_multiprocessing", use_multiprocessing, (True, False))
        size = check_integer("max_queue_size", max_queue_size, 1)
        self._epoch = 0
        self._uses_processes = use_multiprocessing and workers > 0
        self._ahead = None
        if workers > 1 or self._uses_processes:
            self._ahead = _Ahead(workers, use_multiprocessing, size)

    @property
    def workers(self) -> int:
        """The workers of Keras, of which there are none."""
        return 0

    @property
    def num_batches(self) -> int:
        """Number of batches in an epoch."""
        # Keras asks as it begins to go through the batches, and shuffles them next.
        if self._ahead:
            self._ahead.expect_a_pass()
        return len(self)

    def __getitem__(self, index: int) -> Any:
        check_index(index, len(self))
        if self._ahead is None:
            return self._make_batch(self._epoch, index)
        return self._ahead.batch(self, self._epoch, index)

    def on_epoch_end(self) -> None:
        """Go on to the next epoch."""
        if self._ahead:
            self._ahead.stop()
        self._epoch += 1

    def _make_batch(self, epoch: int, index: int) -> Any:
        """Make a batch, in any thread or process and in any order."""
        raise NotImplementedError


def check_index(index: int, size: int) -> None:
    """Raise `IndexError` unless there is a batch of this index."""
    if not 0 <= index < size:
        raise IndexError(f"`index` must be in [0, {size}). Received: index={index}")


# In a worker process: what it makes batches of.
_dataset: WorkerDataset


def _receive(dataset: WorkerDataset) -> None:
    global _dataset
    _dataset = dataset


def _make_received(epoch: int, index: int) -> Any:
    return _dataset._make_batch(epoch, index)


class _Ahead:
    """The workers and the batches that they have in hand.

    A wrong guess at what comes next costs time, and changes no batch.
    """

    def __init__(self, workers: int, use_multiprocessing: bool, size: int) -> None:
        self._arguments = workers, use_multiprocessing, size
        self._lock = threading.Lock()
        self._executor: Executor | None = None
        self._batches: dict[tuple[int, int], Future[Any]] = {}
        self._random_state: tuple[Any, ...] | None = None
        self._order: Sequence[int] = ()
        self._places: dict[int, int] = {}
        self._next_place = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments  # A copy has workers of its own.

    def expect_a_pass(self) -> None:
        with self._lock:
            self._random_state = random.getstate()

    def batch(self, dataset: WorkerDataset, epoch: int, index: int) -> Any:
        with self._lock:
            key = epoch, index
            wanted = [key, *((epoch, other) for other in self._following(dataset, key))]
            for other in wanted:
                if other not in self._batches:
                    self._batches[other] = self._submit(dataset, *other)
            batch = self._batches.pop(key)
        return batch.result()

    def stop(self) -> None:
        with self._lock:
            self._drop(self._batches)
            if self._executor:
                # Another thread may be waiting for a batch: let it be finished.
                self._executor.shutdown(wait=False)
            self._executor = None

    def _following(self, dataset: WorkerDataset, key: tuple[int, int]) -> list[int]:
        """Guess what will be asked for next, and drop all that is not."""
        epoch, index = key
        if self._random_state or len(self._order) != len(dataset):
            self._order = self._guess_order(index, len(dataset))
            self._places = {other: place for place, other in enumerate(self._order)}
        place = self._places[index]
        if place not in (0, self._next_place):
            return []  # From somebody beside Keras, or an order that is not the guess.
        self._next_place = place + 1
        size = self._arguments[2]
        following = list(self._order[place + 1 : place + 1 + size])
        keep = {key, *((epoch, other) for other in following)}
        self._drop([other for other in self._batches if other not in keep])
        return following

    def _guess_order(self, first: int, size: int) -> list[int]:
        """The shuffled order that Keras has drawn, if it begins with `first`."""
        order = list(range(size))
        if self._random_state:
            rng = random.Random()
            rng.setstate(self._random_state)
            rng.shuffle(order)
            self._random_state = None
        return order if order[0] == first else list(range(size))

    def _drop(self, keys: Any) -> None:
        for key in list(keys):
            self._batches.pop(key).cancel()

    def _submit(self, dataset: WorkerDataset, epoch: int, index: int) -> Future[Any]:
        workers, use_multiprocessing, _ = self._arguments
        if not use_multiprocessing:
            self._executor = self._executor or ThreadPoolExecutor(workers)
            return self._executor.submit(dataset._make_batch, epoch, index)
        self._executor = self._executor or ProcessPoolExecutor(
            workers,
            initializer=_receive,
            initargs=(dataset,),
        )
        return self._executor.submit(_make_received, epoch, index)
