"""iNaturalist 2018 for retrieval: photographs of 8,142 species, some of them rare.

The images are those of the training and validation sets of the iNaturalist 2018
competition. The lists, which give some species to training and the others to testing,
are those of the authors of Smooth-AP.

How these chose the species is not published. The number of training species, 5,690,
is that of 70% of each of the 14 super categories, rounded down, and both parts
together are all images that the competition gave classes to.

Reference:
    Van Horn et al., "The iNaturalist Species Classification and Detection Dataset",
    CVPR 2018, https://arxiv.org/abs/1707.06642
    Brown et al., "Smooth-AP: Smoothing the Path Towards Large-Scale Image
    Retrieval", ECCV 2020, https://arxiv.org/abs/2007.12163
"""

import os
from pathlib import Path

from keras_tcm.datasets.image_list import (
    ListedImage,
    parse_integer,
    read_lines,
    source_of,
)
from keras_tcm.datasets.image_set import Images, ImageSet, Split, class_ids

_LISTS = ("Inaturalist_train_set1.txt", "Inaturalist_test_set1.txt")


def _read(folder: Path) -> tuple[Images, Images] | None:
    for parent in (folder / "Inat_dataset_splits", folder):
        files = [parent / name for name in _LISTS]
        if any(file.is_file() for file in files):
            train, test = map(_read_list, files)
            return train, test
    return None


def _read_list(file: Path) -> Images:
    source = source_of(file)
    images = []
    for number, line in enumerate(read_lines(file), 1):
        path, place = line.strip(), f"{source} {number}"
        parts = path.split("/")
        if len(parts) < 3 or not all(parts):
            raise ValueError(
                f"{place} must be a path such as "
                f"'train_val2018/Aves/2761/name.jpg'. Received: {line!r}"
            )
        # The folder of a species is a number, and that of its super category a name.
        class_id = parts[-3], parse_integer(parts[-2], "species", place)
        images.append(ListedImage(path, class_id, source, number))
    return images


_SET = ImageSet(
    name="inaturalist2018",
    title="iNaturalist 2018",
    folder_names=("inaturalist2018",),
    layout="""\
Inat_dataset_splits/Inaturalist_train_set1.txt
Inat_dataset_splits/Inaturalist_test_set1.txt
train_val2018/Aves/2761/*.jpg, ... (14 super categories, 8,142 species)""",
    home_page=(
        "https://github.com/visipedia/inat_comp/tree/master/2018 for the images "
        "(train_val2018), and https://github.com/Andrew-Brown1/Smooth_AP for the "
        "lists (Inat_dataset_splits)"
    ),
    train_counts=(325_846, 5_690),
    test_counts=(136_093, 2_452),
    read=_read,
)


def load(
    data_dir: str | os.PathLike[str] | None = None, check_counts: bool = True
) -> tuple[Split, Split]:
    """Returns the paths of the sightings, with the lists of the Smooth-AP authors.

    Args:
        data_dir: The folder with `train_val2018` and `Inat_dataset_splits`, or one
            that holds it as `inaturalist2018`. The lists may also be next to
            `train_val2018`.
        check_counts: Whether to insist on the published numbers of images and
            classes. `False` takes a part of the data set. Defaults to `True`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: paths of the images as strings, in
        the order of the lists, and int64 labels. Train classes are `0 ... C - 1`,
        test classes go on from `C`, in the order of the super categories, and of
        the numbers of the species in each.

    Raises:
        FileNotFoundError: If the folder, a list or a listed image is missing.
        ValueError: If `data_dir` is `None`, a line of a list is damaged (the message
            names it), or the counts differ.
    """
    return _SET.load(data_dir, check_counts)


def class_names(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the super category and the number of each label, as in `"Aves/2761"`.

    The names of the species are in `categories.json` of the competition, under
    these numbers.

    Args:
        data_dir: As in `load`.

    Returns:
        One name per label, the train classes first.

    Raises:
        FileNotFoundError: If the folder or a list is missing.
        ValueError: If `data_dir` is `None`, or a list is damaged.
    """
    _, train, test = _SET.find(data_dir)
    return tuple(f"{group}/{species}" for group, species in class_ids(train, test))
