"""Images of many files, in order."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_tcm.data.augmentation import to_numpy
from keras_tcm.data.images import read_images
from keras_tcm.data.worker_dataset import WorkerDataset
from keras_tcm.validation import check_integer


class ImageBatches(WorkerDataset):
    """The images of a list of files in its order, each of them once.

    For `model.predict` and `callbacks.RetrievalEvaluation`, which so embed any number
    of images without holding more than a few batches in memory. To train, take
    `data.ClassBalancedSampler`.

    Args:
        x: Paths of N images (`str` or `Path`), at least one.
        image_size: `(height, width)` to which images are resized.
        batch_size: Integer, number of images in a batch; the last one has what is
            left. Defaults to 32.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `data.ClassBalancedSampler`.

    Raises:
        TypeError: If `batch_size` is not an integer.
        ValueError: If `x` is not a list of paths, `image_size` is not two positive
            integers, or `batch_size` is below 1. When a batch is made, if an image
            cannot be read; the message names the file.

    Example:

    ```python
    batches = keras_tcm.data.ImageBatches(x_test, image_size=(224, 224), workers=4)
    result = keras_tcm.evaluate_embeddings(model.predict(batches), y_test)
    ```
    """

    def __init__(
        self,
        x: Any,
        image_size: Sequence[int],
        batch_size: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._x = _check_paths(x)
        self.image_size = _check_image_size(image_size)
        self.batch_size = check_integer("batch_size", batch_size, 1)

    def __len__(self) -> int:
        return -(-len(self._x) // self.batch_size)

    def _make_batch(self, epoch: int, index: int) -> np.ndarray:
        start = index * self.batch_size
        return read_images(self._x[start : start + self.batch_size], self.image_size)


def _check_paths(x: Any) -> np.ndarray:
    paths = to_numpy(x)
    if (
        paths.ndim != 1
        or not len(paths)
        or not all(isinstance(path, str | os.PathLike) for path in paths)
    ):
        raise ValueError(
            "`x` must be a list of paths of images (str or Path), at least one. "
            f"Received: x of dtype {paths.dtype} and shape {paths.shape}"
        )
    return paths


def _check_image_size(image_size: Any) -> tuple[int, int]:
    try:
        height, width = image_size
        return check_integer("height", height, 1), check_integer("width", width, 1)
    except (TypeError, ValueError):
        raise ValueError(
            "`image_size` must be (height, width), two integers >= 1. "
            f"Received: image_size={image_size!r}"
        ) from None
