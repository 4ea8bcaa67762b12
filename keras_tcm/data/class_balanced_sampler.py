"""Batches with the same number of samples of each of a few classes."""

import os
import random
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_tcm.labels import check_labels, encode_labels, label_array
from keras_tcm.validation import check_integer


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _to_numpy(values: Any) -> np.ndarray:
    if keras.ops.is_tensor(values):
        return keras.ops.convert_to_numpy(values)
    return np.asarray(values)


def _class_schedule(
    rng: np.random.Generator, num_classes: int, classes_per_batch: int, steps: int
) -> np.ndarray:
    """Draw the classes of every batch of an epoch.

    The schedule is a run of permutations of all classes cut into batches, so each
    class comes up equally often up to one time.

    Returns:
        Integer array `(steps, classes_per_batch)`, no class twice in a row.
    """
    total = steps * classes_per_batch
    permutations = [rng.permutation(num_classes)]
    while len(permutations) * num_classes < total:
        following = rng.permutation(num_classes)
        # The batch on the seam begins with the last `started` classes drawn: what
        # completes it must be others.
        started = len(permutations) * num_classes % classes_per_batch
        if started:
            seam = permutations[-1][-started:]
            others = following[~np.isin(following, seam)]
            completing = others[: classes_per_batch - started]
            rest = following[~np.isin(following, completing)]
            following = np.concatenate([completing, rest])
        permutations.append(following)
    return np.concatenate(permutations)[:total].reshape(steps, classes_per_batch)


class ClassBalancedSampler(keras.utils.PyDataset):
    """Batches of `classes_per_batch` classes with `samples_per_class` samples each.

    Metric learning needs positive pairs in every batch, which uniform sampling
    does not give once there are many classes. Pass an instance to `model.fit`.

    Over an epoch all classes come up equally often (up to one time), and a class
    goes through all of its samples before it repeats one, as far as
    `samples_per_class` divides their number. A class with fewer than
    `samples_per_class` samples repeats them evenly within the batch. A class with
    a single sample has no positive pair: it is left out, with a warning.

    Batch `index` of an epoch depends on `seed`, the epoch and `index` only: any
    number of workers, threads or processes, gives the same batches. `fit` visits
    them in an order of its own unless it is called with `shuffle=False`, and
    Keras may go to the next epoch once more as `fit` starts.

    Args:
        x: Samples: array `(N, ...)`, or N paths of images (`str` or `Path`), which
            are then read batch by batch as RGB in [0, 255].
        y: Labels, one per sample. Integers come out as they are, as int64; labels
            of any other hashable kind come out as 0 to C-1, see `classes`.
        classes_per_batch: Integer, number of different classes in a batch.
        samples_per_class: Integer, number of samples of each of them. The samples
            of a class are next to each other in the batch.
        steps_per_epoch: Integer, number of batches in an epoch. Defaults to
            `None`: `N // (classes_per_batch * samples_per_class)`, at least 1.
        seed: Integer >= 0. Defaults to `None`: drawn once from Python's `random`,
            which `keras.utils.set_random_seed` makes reproducible.
        image_size: `(height, width)` to which images are resized. Required when
            `x` holds paths, and for nothing else. Defaults to `None`.
        outputs: Names of the outputs of a model with several, such as
            `("cosines", "embedding")`: the labels then come as a dictionary with
            one entry each, as `fit` wants them. Defaults to `None`: plain labels.
        **kwargs: Keyword arguments of `keras.utils.PyDataset`: `workers`,
            `use_multiprocessing` and `max_queue_size`.

    Attributes:
        classes: Array `(C,)` of the different labels in `y`; `classes[code]` is the
            original of an encoded label.
        seed: The seed in use.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If an argument has the wrong shape, length or range, or fewer
            than `classes_per_batch` classes have two samples.

    Example:
    >>> x, y = np.zeros((100, 28, 28, 1)), np.arange(100) // 10
    >>> sampler = keras_tcm.data.ClassBalancedSampler(
    ...     x, y, classes_per_batch=4, samples_per_class=5)
    >>> x_batch, y_batch = sampler[0]
    >>> x_batch.shape, np.unique(y_batch, return_counts=True)[1], len(sampler)
    ((20, 28, 28, 1), array([5, 5, 5, 5]), 5)
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes_per_batch = check_integer(
            "classes_per_batch", classes_per_batch, 1
        )
        self.samples_per_class = check_integer(
            "samples_per_class", samples_per_class, 1
        )
        if seed is None:
            seed = random.randrange(2**31)
        self.seed = check_integer("seed", seed, 0)

        if isinstance(outputs, str):
            raise TypeError(
                f"`outputs` must be a sequence of names. Received: outputs={outputs!r}"
            )
        self.outputs = None if outputs is None else tuple(outputs)

        self._x = _to_numpy(x)
        self.image_size = self._check_samples(image_size)
        labels = check_labels("y", y, len(self._x))
        classes, (codes,) = encode_labels(labels)
        self.classes = label_array(classes)
        self._labels = codes
        if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
            if labels.dtype.kind == "u" and labels.max(initial=0) > 2**63 - 1:
                raise ValueError(
                    f"`y` must fit int64. Received: a label of {labels.max()}"
                )
            self._labels = labels.astype(np.int64)
        self._members = self._class_members(codes)

        if steps_per_epoch is None:
            batch_size = self.classes_per_batch * self.samples_per_class
            steps_per_epoch = max(1, len(self._x) // batch_size)
        self.steps_per_epoch = check_integer("steps_per_epoch", steps_per_epoch, 1)
        self._start_epoch(0)

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

    def _class_members(self, codes: np.ndarray) -> list[np.ndarray]:
        """Return the sample indices of each class that has a positive pair."""
        counts = np.bincount(codes, minlength=len(self.classes))
        by_class = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
        members = [indices for indices in by_class if len(indices) > 1]
        if len(members) < self.classes_per_batch:
            raise ValueError(
                "`classes_per_batch` must not exceed the number of classes with at "
                f"least two samples. Received: classes_per_batch="
                f"{self.classes_per_batch}, with {len(members)} such classes in `y`"
            )
        num_single = len(self.classes) - len(members)
        if num_single:
            warnings.warn(
                f"Left out {num_single} of {len(self.classes)} classes "
                f"({num_single} of {len(codes)} samples): a class with a single "
                "sample has no positive pair.",
                stacklevel=3,
            )
        return members

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def _start_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._schedule = _class_schedule(
            self._rng(epoch),
            len(self._members),
            self.classes_per_batch,
            self.steps_per_epoch,
        )

    def _draw(self, class_index: int, visit: int) -> np.ndarray:
        """Return the samples of a class the `visit`-th time in this epoch."""
        members = self._members[class_index]
        # One permutation of the samples serves several visits.
        visits = max(1, len(members) // self.samples_per_class)
        rng = self._rng(self._epoch, class_index, visit // visits)
        start = visit % visits * self.samples_per_class
        drawn = rng.permutation(members)[start : start + self.samples_per_class]
        return np.resize(drawn, self.samples_per_class)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(
        self, index: int
    ) -> tuple[np.ndarray, np.ndarray | dict[str, np.ndarray]]:
        if not 0 <= index < len(self):
            raise IndexError(
                f"`index` must be in [0, {len(self)}). Received: index={index}"
            )
        # The schedule is made of whole permutations of the classes, so a place in
        # it tells how often its class has come up before.
        first = index * self.classes_per_batch
        samples = np.concatenate(
            [
                self._draw(class_index, place // len(self._members))
                for place, class_index in enumerate(self._schedule[index], first)
            ]
        )
        labels = self._labels[samples]
        if self.outputs is None:
            return self._load(samples), labels
        return self._load(samples), dict.fromkeys(self.outputs, labels)

    def _load(self, samples: np.ndarray) -> np.ndarray:
        x = self._x[samples]
        if self.image_size is None:
            return x
        images = [
            keras.utils.load_img(
                path, target_size=self.image_size, interpolation="bilinear"
            )
            for path in x
        ]
        return np.stack([keras.utils.img_to_array(image) for image in images])

    def on_epoch_end(self) -> None:
        """Draw new batches for the next epoch."""
        self._start_epoch(self._epoch + 1)
