"""Stanford Online Products: photographs of articles that were for sale on eBay.

Reference:
    Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding",
    CVPR 2016, https://arxiv.org/abs/1511.06452
"""

import os
from pathlib import Path

from keras_tcm.datasets.image_list import ListedImage, read_table, source_of
from keras_tcm.datasets.image_set import Images, ImageSet, Split

_COLUMNS = {"image_id": int, "class_id": int, "super_class_id": int, "path": str}


def _read(folder: Path) -> tuple[Images, Images] | None:
    files = folder / "Ebay_train.txt", folder / "Ebay_test.txt"
    if not any(file.is_file() for file in files):
        return None
    train, test = (
        [
            ListedImage(path, class_id, source_of(file), line)
            for line, (_, class_id, _, path) in read_table(file, _COLUMNS, header=True)
        ]
        for file in files
    )
    return train, test


_SET = ImageSet(
    name="sop",
    title="Stanford Online Products",
    folder_names=("Stanford_Online_Products", "sop"),
    layout="""\
Ebay_train.txt
Ebay_test.txt
bicycle_final/*.JPG, cabinet_final/*.JPG, ... (12 folders)""",
    home_page="https://cvgl.stanford.edu/projects/lifted_struct/",
    train_counts=(59_551, 11_318),
    test_counts=(60_502, 11_316),
    read=_read,
)


def load(
    data_dir: str | os.PathLike[str] | None = None, check_counts: bool = True
) -> tuple[Split, Split]:
    """Returns the paths of the products, split as the authors did.

    The folder of an image, such as `bicycle_final`, is its kind of product; the
    articles, which are the classes, have no names.

    Args:
        data_dir: The folder `Stanford_Online_Products` of the archive, or one that
            holds it under this name or as `sop`.
        check_counts: Whether to insist on the published numbers of images and
            classes. `False` takes a part of the data set. Defaults to `True`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: paths of the images as strings, in
        the order of `Ebay_train.txt` and `Ebay_test.txt`, and int64 labels. Train
        classes are `0 ... C - 1`, test classes go on from `C`, in the order of
        `class_id`.

    Raises:
        FileNotFoundError: If the folder, a list or a listed image is missing.
        ValueError: If `data_dir` is `None`, a line of a list is damaged (the message
            names it), or the counts differ.
    """
    return _SET.load(data_dir, check_counts)
