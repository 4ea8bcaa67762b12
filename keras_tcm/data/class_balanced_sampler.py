"""Batches with the same number of samples of each of a few classes."""

import os
import random
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_tcm.data.augmentation import apply_augmentation, to_numpy
from keras_tcm.data.class_schedule import (
    balanced_schedule,
    class_shares,
    earlier_visits,
    weighted_schedule,
)
from keras_tcm.data.images import read_images
from keras_tcm.data.worker_dataset import WorkerDataset, check_index
from keras_tcm.labels import (
    are_integers,
    check_labels,
    encode_labels,
    held_integers,
    label_array,
)
from keras_tcm.validation import check_choice, check_integer, check_number


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _one_array(x: Any) -> np.ndarray:
    """Return the samples, unless they are the arrays of several inputs of a model."""
    received = type(x).__name__
    try:
        if not isinstance(x, Mapping):
            return to_numpy(x)
    except ValueError:
        received = f"{received} of entries of several shapes"
    raise ValueError(
        "`x` must be one array, with samples of one shape. Received: "
        f"{received}. Samples of several arrays can be taken by "
        "`sampler.indices(step)`, of a sampler whose `x` is `np.arange(len(y))`."
    )


class _Plan(NamedTuple):
    """Which classes make up each batch of an epoch, and how often each came before."""

    epoch: int
    schedule: np.ndarray
    visits: np.ndarray


class ClassBalancedSampler(WorkerDataset):
    """Batches of `classes_per_batch` classes with `samples_per_class` samples each.

    Metric learning needs positive pairs in every batch, which uniform sampling
    does not give once there are many classes. Pass an instance to `model.fit`.

    Over an epoch all classes come up equally often (up to one time), or in
    proportion to `class_weights`, and never twice in a batch. A class goes through
    all of its samples before it repeats one, as far as `samples_per_class` divides
    their number. A class with fewer than `samples_per_class` samples repeats them
    evenly within the batch, see `replacement`. A class with a single sample has no
    positive pair: it is left out, with a warning.

    An epoch is `steps_per_epoch` batches, all of them full: there is no smaller one
    at the end. Samples for which there is no place in this epoch are as likely as
    any others to come up in the next.

    Batch `index` of an epoch depends on `seed`, the epoch and `index` only: any
    number of workers, threads or processes, gives the same batches. `fit` visits
    them in an order of its own unless it is called with `shuffle=False`. Keras ends
    an epoch as `fit` starts and one each time that it has trained for one, so a first
    `fit` trains on epochs 1, 2, ... of the sampler. Leave the `steps_per_epoch` of
    `fit` alone: with fewer than here, Keras goes on in the middle of the next epoch.

    Each batch is `x[indices], y[indices]` with `indices = sampler.indices(index)`,
    the schedule by itself, from which other loaders can work: `tf.data`, PyTorch's
    `DataLoader(batch_sampler=...)`, or grain, which takes the sampler as it is, in
    `grain.MapDataset.source(sampler)`.

    Args:
        x: Samples: array `(N, ...)`, or N paths of images (`str` or `Path`), which
            are then read batch by batch, by the workers, as RGB in [0, 255].
        y: Labels, one per sample. Integers come out as they are, as int64, and must
            be some that the backend holds (32 bits on JAX, without `jax_enable_x64`);
            labels of any other hashable kind come out as 0 to C-1, see `classes`.
        classes_per_batch: Integer, number of different classes in a batch.
        samples_per_class: Integer, number of samples of each of them. The samples
            of a class are next to each other in the batch.
        steps_per_epoch: Integer, number of batches in an epoch. Defaults to
            `None`: `N // (classes_per_batch * samples_per_class * num_processes)`,
            at least 1.
        seed: Integer >= 0. Required when `num_processes` is more than 1. Defaults
            to `None`: drawn once from Python's `random`, which
            `keras.utils.set_random_seed` makes reproducible.
        image_size: `(height, width)` to which images are resized. Required when
            `x` holds paths, and for nothing else. Defaults to `None`.
        outputs: Names of the outputs of a model with several, such as
            `("cosines", "embedding")`: the labels then come as a dictionary with
            one entry each, as `fit` wants them. Defaults to `None`: plain labels.
        replacement: Boolean. `False` leaves out the classes with fewer than
            `samples_per_class` samples, with a warning; then no batch holds a
            sample twice. `True`, the default, has them repeat samples. Mind that
            two copies of a sample are a positive pair of similarity 1, which
            teaches nothing, takes its share of the averages over positive pairs,
            and makes training metrics look better than they are. `augment` makes
            the copies differ.
        class_weights: Weights >= 0 of the classes: a mapping with one entry for
            each label, or an array `(C,)` in the order of `classes`. A class comes
            up in a batch with a probability of `classes_per_batch` times its share
            of the weights, and over an epoch as often as that makes, rounded up or
            down. Where that is more than 1 it comes up in each batch, and the
            others divide the other places by their weights. A class of weight 0
            never comes up. Defaults to `None`: all alike, and evenly spaced too.
        augment: Keras layer or other callable that takes the samples of a batch and
            returns as many. A Keras layer is called with `training=True`, and its
            random seeds come from `seed`, the epoch and `index`. Another callable
            that has a parameter `rng` gets a `numpy.random.Generator` made of the
            same there, and gives the same batches whatever the workers if it draws
            from nothing else. Several workers call it at the same time. Defaults to
            `None`.
        num_processes: Integer, number of processes that train together, each with a
            sampler of the same arguments but `process_id`. In the same step they
            get different classes: their batches make up a balanced batch of
            `num_processes * classes_per_batch` classes, for which all of the above
            holds. Call `fit` with `shuffle=False`, so that they are at the same step.
            Defaults to 1.
        process_id: Integer from 0 to `num_processes - 1`. Defaults to 0.
        **kwargs: `workers` (defaults to 1), more than one of which make batches ahead
            of their turn, up to `max_queue_size` (10) of them; threads, or processes
            with `use_multiprocessing=True`.

    Attributes:
        classes: Array `(C,)` of the different labels in `y`; `classes[code]` is the
            original of an encoded label.
        seed: The seed in use.

    Raises:
        TypeError: If a number is not an integer, or `augment` is not callable.
        ValueError: If an argument has the wrong shape, length or range, if fewer
            than `classes_per_batch * num_processes` classes can be drawn, or if
            `augment` is a Keras layer and `use_multiprocessing` is set: a forked
            worker cannot compute with the backend of its parent. When a batch is
            made, if an image cannot be read (the message names the file) or
            `augment` changes the number of samples.

    Example:
    >>> x, y = np.zeros((100, 28, 28, 1)), np.arange(100) // 10
    >>> sampler = keras_tcm.data.ClassBalancedSampler(
    ...     x, y, classes_per_batch=4, samples_per_class=5)
    >>> x_batch, y_batch = sampler[0]
    >>> x_batch.shape, np.unique(y_batch, return_counts=True)[1], len(sampler)
    ((20, 28, 28, 1), array([5, 5, 5, 5]), 5)
    >>> np.array_equal(y_batch, y[sampler.indices(0)])
    True
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        classes_per_batch: int,
        samples_per_class: int,
        steps_per_epoch: int | None = None,
        seed: int | None = None,
        image_size: Sequence[int] | None = None,
        outputs: Sequence[str] | None = None,
        *,
        replacement: bool = True,
        class_weights: Mapping[Hashable, float] | Sequence[float] | None = None,
        augment: Callable[..., Any] | None = None,
        num_processes: int = 1,
        process_id: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes_per_batch = check_integer(
            "classes_per_batch", classes_per_batch, 1
        )
        self.samples_per_class = check_integer(
            "samples_per_class", samples_per_class, 1
        )
        check_choice("replacement", replacement, (True, False))
        self.replacement = replacement
        self._check_processes(num_processes, process_id, seed)
        if seed is None:
            seed = random.randrange(2**31)
        self.seed = check_integer("seed", seed, 0)

        if isinstance(outputs, str):
            raise TypeError(
                f"`outputs` must be a sequence of names. Received: outputs={outputs!r}"
            )
        self.outputs = None if outputs is None else tuple(outputs)

        self._x = _one_array(x)
        self.image_size = self._check_samples(image_size)
        labels = check_labels("y", y, len(self._x))
        classes, (codes,) = encode_labels(labels)
        self.classes = label_array(classes)
        self._labels = codes
        if are_integers(classes):
            self._labels = held_integers("y", self.classes[codes])
        weights = self._check_weights(class_weights)
        drawn = self._classes_to_draw(codes, weights)
        by_class = np.split(
            np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1]
        )
        self._members = [by_class[code] for code in drawn]
        self._shares = None
        if weights is not None:
            self._shares = class_shares(weights[drawn], self._classes_per_step)

        if steps_per_epoch is None:
            step_size = self._classes_per_step * self.samples_per_class
            steps_per_epoch = max(1, len(self._x) // step_size)
        self.steps_per_epoch = check_integer("steps_per_epoch", steps_per_epoch, 1)
        self.augment = augment
        if augment is not None:
            self._check_augmentation()
        self._plan = self._draw_plan(self._epoch)

    def _check_processes(
        self, num_processes: int, process_id: int, seed: int | None
    ) -> None:
        """Check and keep the number of processes and the place among them."""
        self.num_processes = check_integer("num_processes", num_processes, 1)
        self.process_id = check_integer("process_id", process_id, 0)
        if self.process_id >= self.num_processes:
            raise ValueError(
                "`process_id` must be less than `num_processes`. Received: "
                f"process_id={process_id}, num_processes={num_processes}"
            )
        if seed is None and self.num_processes > 1:
            raise ValueError(
                "`seed` must be given, the same in each process, when "
                "`num_processes` is more than 1. Received: seed=None, "
                f"num_processes={num_processes}"
            )
        self._classes_per_step = self.classes_per_batch * self.num_processes

    def _check_samples(
        self, image_size: Sequence[int] | None
    ) -> tuple[int, int] | None:
        """Check `x` and `image_size` against each other."""
        x = self._x
        if x.ndim == 0:
            raise ValueError(f"`x` must hold one entry per sample. Received: x={x!r}")
        holds_paths = x.dtype.kind == "U" or (
            x.dtype.kind == "O" and x.ndim == 1 and all(map(_is_path, x))
        )
        if not holds_paths:
            if x.dtype.kind not in "biufc":
                raise ValueError(
                    "`x` must be a numeric array or paths of images (str or Path). "
                    f"Received: x of dtype {x.dtype} and shape {x.shape}"
                )
            if image_size is not None:
                raise ValueError(
                    "`image_size` must be None unless `x` holds paths of images. "
                    f"Received: image_size={image_size}"
                )
            return None
        if (
            not isinstance(image_size, Sequence)
            or len(image_size) != 2
            or not all(_is_integer(size) and size > 0 for size in image_size)
        ):
            raise ValueError(
                "`image_size` must be (height, width), two integers >= 1, when `x` "
                f"holds paths of images. Received: image_size={image_size}"
            )
        return int(image_size[0]), int(image_size[1])

    def _check_weights(self, class_weights: Any) -> np.ndarray | None:
        """Return one weight for each of `classes`."""
        if class_weights is None:
            return None
        labels = self.classes.tolist()
        if isinstance(class_weights, Mapping):
            for label in labels:
                if label not in class_weights:
                    raise ValueError(
                        "`class_weights` must have an entry for each label in `y`. "
                        f"Received: no entry for {label!r}"
                    )
            values = [class_weights[label] for label in labels]
        else:
            array = to_numpy(class_weights)
            if array.shape != (len(labels),):
                raise ValueError(
                    "`class_weights` must be a mapping or have shape (classes,), "
                    f"({len(labels)},). Received: class_weights.shape={array.shape}"
                )
            values = array.tolist()
        return np.array(
            [
                check_number(f"class_weights[{key!r}]", value, 0)
                for key, value in zip(labels, values, strict=True)
            ]
        )

    def _classes_to_draw(
        self, codes: np.ndarray, weights: np.ndarray | None
    ) -> np.ndarray:
        """Return the codes of the classes that have a weight and enough samples."""
        counts = np.bincount(codes, minlength=len(self.classes))
        wanted = np.ones(len(counts), bool) if weights is None else weights > 0
        minimum = 2 if self.replacement else max(2, self.samples_per_class)
        large = counts >= minimum
        drawn = np.flatnonzero(wanted & large)
        if len(drawn) < self._classes_per_step:
            raise ValueError(
                "`classes_per_batch * num_processes` must not exceed the number of "
                f"classes with at least {minimum} samples"
                f"{'' if weights is None else ' and a weight above 0'}. Received: "
                f"classes_per_batch={self.classes_per_batch}, "
                f"num_processes={self.num_processes}, with {len(drawn)} such classes "
                "in `y`"
            )
        left_out = wanted & ~large
        if left_out.any():
            reason = (
                "a class with a single sample has no positive pair."
                if minimum == 2
                else f"`replacement=False` needs {minimum} samples in a class."
            )
            warnings.warn(
                f"Left out {left_out.sum()} of {len(counts)} classes "
                f"({counts[left_out].sum()} of {len(codes)} samples): {reason}",
                stacklevel=3,
            )
        return drawn

    def _check_augmentation(self) -> None:
        """Check `augment`, and build it if it is a Keras layer."""
        if not callable(self.augment):
            raise TypeError(
                "`augment` must be a Keras layer or another callable. "
                f"Received: augment={self.augment!r}"
            )
        if not isinstance(self.augment, keras.Layer):
            return
        if self._uses_processes:
            raise ValueError(
                "`use_multiprocessing` must be False when `augment` is a Keras layer. "
                f"Received: use_multiprocessing=True, augment={self.augment!r}"
            )
        # Workers that build it at the same time would get in each other's way.
        sample = self._load(np.arange(1))[0]
        batch = keras.KerasTensor((None, *sample.shape), dtype=sample.dtype.name)
        self.augment(batch, training=True)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def _draw_plan(self, epoch: int) -> _Plan:
        rng = self._rng(epoch)
        if self._shares is None:
            schedule = balanced_schedule(
                rng, len(self._members), self._classes_per_step, self.steps_per_epoch
            )
        else:
            schedule = weighted_schedule(rng, self._shares, self.steps_per_epoch)
        # All processes draw the same schedule, and each takes its columns of it.
        first = self.process_id * self.classes_per_batch
        columns = slice(first, first + self.classes_per_batch)
        visits = earlier_visits(schedule)[:, columns]
        return _Plan(epoch, schedule[:, columns], visits)

    def _draw(self, epoch: int, class_index: int, visit: int) -> np.ndarray:
        """Return the samples of a class the `visit`-th time in an epoch."""
        members = self._members[class_index]
        # One permutation of the samples serves several visits.
        visits = max(1, len(members) // self.samples_per_class)
        rng = self._rng(epoch, class_index, visit // visits)
        start = visit % visits * self.samples_per_class
        drawn = rng.permutation(members)[start : start + self.samples_per_class]
        return np.resize(drawn, self.samples_per_class)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def indices(self, index: int) -> np.ndarray:
        """Return which samples make up a batch of the current epoch.

        Args:
            index: Integer from 0 to `len(sampler) - 1`, the place of the batch.

        Returns:
            int64 array `(classes_per_batch * samples_per_class,)` of indices into
            `x` and `y`.

        Raises:
            IndexError: If there is no such batch.
        """
        check_index(index, len(self))
        return self._indices(self._epoch, index)

    def _indices(self, epoch: int, index: int) -> np.ndarray:
        plan = self._plan
        if plan.epoch != epoch:
            # For a worker that has not heard of the new epoch yet.
            plan = self._draw_plan(epoch)
        visits = zip(plan.schedule[index], plan.visits[index], strict=True)
        return np.concatenate([self._draw(epoch, *visit) for visit in visits])

    def _make_batch(
        self, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray | dict[str, np.ndarray]]:
        samples = self._indices(epoch, index)
        x = self._load(samples)
        if self.augment is not None:
            # Another source in each process: their samples differ, so should this.
            place = index * self.num_processes + self.process_id
            x = apply_augmentation(self.augment, x, self._rng(epoch, place))
        labels = self._labels[samples]
        if self.outputs is None:
            return x, labels
        return x, dict.fromkeys(self.outputs, labels)

    def _load(self, samples: np.ndarray) -> np.ndarray:
        x = self._x[samples]
        return x if self.image_size is None else read_images(x, self.image_size)

    def on_epoch_end(self) -> None:
        """Draw new batches for the next epoch."""
        super().on_epoch_end()
        self._plan = self._draw_plan(self._epoch)
