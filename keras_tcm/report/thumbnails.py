"""A small image of each class, to stand beside its name."""

import base64
import io
from typing import Any

import numpy as np

from keras_tcm.evaluation import Evaluation
from keras_tcm.labels import check_labels
from keras_tcm.visualization.images import check_images, pick_images, samples_of

# Longest side in pixels: twice that in which the page shows them, for sharp screens.
_SIDE = 64
_QUALITY = 75
# More would make a large page: 64 x 64 pixels take 4 kB at most.
MAX_THUMBNAILS = 500


def thumbnails(evaluation: Evaluation, images: Any, labels: Any) -> list[str | None]:
    """Make a thumbnail of the first image of each class.

    Args:
        evaluation: Evaluation of embeddings of the images.
        images: Images or paths of files, as `plot_worst_classes` takes them.
        labels: Their labels.

    Returns:
        A data URI for each class, or `None` for those beyond the 500 with the largest
        share of OPIS.
    """
    images = check_images(images)
    labels = check_labels("labels", labels, len(images))
    order = evaluation.worst_classes(MAX_THUMBNAILS)
    rows = samples_of(evaluation.classes[order].tolist(), labels, 1)
    first = [sample for (sample,) in rows]
    pixels = pick_images(images, first)
    uris: list[str | None] = [None] * len(evaluation.classes)
    for place, sample in zip(order.tolist(), first, strict=True):
        uris[place] = _data_uri(pixels[sample])
    return uris


def _data_uri(pixels: np.ndarray) -> str:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'Images in a page need Pillow: pip install "keras-tcm[viz]"'
        ) from error
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/jpeg;base64,{content}"
