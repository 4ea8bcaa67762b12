"""Caltech-UCSD Birds-200-2011: photographs of 200 species of birds.

Reference:
    Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", Technical Report
    CNS-TR-2011-001, California Institute of Technology (2011).
"""

import os
from pathlib import Path

from keras_tcm.datasets.image_list import ListedImage, read_table, source_of
from keras_tcm.datasets.image_set import Images, ImageSet, Split, class_ids

NUM_TRAIN_CLASSES = 100


def _read(folder: Path) -> tuple[Images, Images] | None:
    names, labels = folder / "images.txt", folder / "image_class_labels.txt"
    if not names.is_file():
        return None
    class_of: dict[int, int] = {}
    for line, (image_id, class_id) in read_table(
        labels, {"image_id": int, "class_id": int}
    ):
        if image_id in class_of:
            raise ValueError(
                f"{source_of(labels)} {line} must not give a class to an image that "
                f"has one. Received: image_id {image_id}"
            )
        class_of[image_id] = class_id
    train: Images = []
    test: Images = []
    unused = set(class_of)
    for line, (image_id, name) in read_table(
        names, {"image_id": int, "image_name": str}
    ):
        if image_id not in unused:
            raise ValueError(
                f"{source_of(names)} {line} must name an image that has a class in "
                f"{labels}, and once. Received: image_id {image_id}"
            )
        unused.remove(image_id)
        split = train if class_of[image_id] <= NUM_TRAIN_CLASSES else test
        split.append(
            ListedImage(f"images/{name}", class_of[image_id], source_of(names), line)
        )
    if unused:
        raise ValueError(
            f"{names} must name every image that has a class in {labels}. "
            f"Received: none with image_id {min(unused)}"
        )
    return train, test


_SET = ImageSet(
    name="cub200",
    title="Caltech-UCSD Birds-200-2011",
    folder_names=("CUB_200_2011", "cub200"),
    layout="""\
images.txt
image_class_labels.txt
classes.txt
images/001.Black_footed_Albatross/*.jpg, images/002.Laysan_Albatross/*.jpg, ...""",
    home_page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    train_counts=(5_864, 100),
    test_counts=(5_924, 100),
    read=_read,
)


def load(
    data_dir: str | os.PathLike[str] | None = None, check_counts: bool = True
) -> tuple[Split, Split]:
    """Returns the paths of the birds: the first 100 species to train on.

    Args:
        data_dir: The folder `CUB_200_2011` of the archive, or one that holds it under
            this name or as `cub200`.
        check_counts: Whether to insist on the published numbers of images and
            classes. `False` takes a part of the data set. Defaults to `True`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: paths of the images as strings, in
        the order of `images.txt`, and int64 labels. Train classes are `0 ... C - 1`,
        test classes go on from `C`, in the order of the ids in `classes.txt`.

    Raises:
        FileNotFoundError: If the folder, a list or a listed image is missing.
        ValueError: If `data_dir` is `None`, a line of a list is damaged (the message
            names it), or the counts differ.
    """
    return _SET.load(data_dir, check_counts)


def class_names(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the name of each label, such as `"001.Black_footed_Albatross"`.

    Args:
        data_dir: As in `load`.

    Returns:
        One name per label, as `classes.txt` has it, the train classes first.

    Raises:
        FileNotFoundError: If the folder or a list is missing.
        ValueError: If `data_dir` is `None`, or a list is damaged.
    """
    folder, train, test = _SET.find(data_dir)
    file = folder / "classes.txt"
    columns = {"class_id": int, "class_name": str}
    names = {class_id: name for _, (class_id, name) in read_table(file, columns)}
    ids = class_ids(train, test)
    for class_id in ids:
        if class_id not in names:
            raise ValueError(
                f"{file} must name every class. Received: none with class_id {class_id}"
            )
    return tuple(names[class_id] for class_id in ids)
