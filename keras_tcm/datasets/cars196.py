"""Stanford Cars (Cars196): photographs of 196 models of cars.

Reference:
    Krause et al., "3D Object Representations for Fine-Grained Categorization",
    3dRR workshop at ICCV 2013, https://doi.org/10.1109/ICCVW.2013.77
"""

import os
import re
from pathlib import Path

from keras_tcm.datasets.cars196_annotations import read_annotations, read_class_names
from keras_tcm.datasets.image_list import ListedImage
from keras_tcm.datasets.image_set import Images, ImageSet, Split, class_ids

NUM_TRAIN_CLASSES = 98
# The ids go through the makes in the order of code points, so those up to 98 are the
# names up to this one, though the models of a make are in another order.
LAST_TRAIN_CLASS = "FIAT 500 Abarth 2012"

# Every name ends in a year, in some copies with "_" in place of the spaces.
_CLASS_NAME = re.compile(r".+[ _](19|20)\d\d")
# Where the folders of the classes may be. `train` and `test` are those of the
# classification task: both have all classes.
_CLASS_PARENTS = (
    *("", "images"),
    *("train", "car_data/train", "car_data/car_data/train"),
    *("test", "car_data/test", "car_data/car_data/test"),
)
_SUFFIXES = (".jpg", ".jpeg", ".png")


def _read(folder: Path) -> tuple[Images, Images] | None:
    file = _file_of_all(folder)
    if file:
        return _by_id(read_annotations(file, "relative_im_path", ""))
    files = _files_of_devkit(folder)
    if files:
        return _by_id(
            read_annotations(files[0], "fname", "cars_train/")
            + read_annotations(files[1], "fname", "cars_test/")
        )
    images = _in_class_folders(folder)
    return _by_name(images) if images else None


def _file_of_all(folder: Path) -> Path | None:
    """Finds the annotations of `car_ims`; some copies have them without the images."""
    file = folder / "cars_annos.mat"
    return file if file.is_file() and (folder / "car_ims").is_dir() else None


def _files_of_devkit(folder: Path) -> tuple[Path, Path] | None:
    """Finds the annotations of `cars_train` and of `cars_test`."""
    train = folder / "devkit" / "cars_train_annos.mat"
    name = "cars_test_annos_withlabels.mat"
    for test in (folder / "devkit" / name, folder / name):
        if train.is_file() and test.is_file():
            return train, test
    return None


def _in_class_folders(folder: Path) -> Images:
    images = []
    for parent in filter(Path.is_dir, map(folder.joinpath, _CLASS_PARENTS)):
        for class_folder in parent.iterdir():
            if not _CLASS_NAME.fullmatch(class_folder.name) or class_folder.is_file():
                continue
            directory = class_folder.relative_to(folder).as_posix()
            names = (
                name
                for name in os.listdir(class_folder)
                if name.lower().endswith(_SUFFIXES) and not name.startswith(".")
            )
            images += [
                ListedImage(f"{directory}/{name}", class_folder.name, directory, number)
                for number, name in enumerate(sorted(names), 1)
            ]
    # Stable: those in `train` stay before those in `test`.
    return sorted(images, key=lambda image: image.class_id)


def _by_id(images: Images) -> tuple[Images, Images]:
    return (
        [image for image in images if image.class_id <= NUM_TRAIN_CLASSES],
        [image for image in images if image.class_id > NUM_TRAIN_CLASSES],
    )


def _by_name(images: Images) -> tuple[Images, Images]:
    def is_train(image: ListedImage) -> bool:
        return image.class_id.replace("_", " ") <= LAST_TRAIN_CLASS

    return (
        [image for image in images if is_train(image)],
        [image for image in images if not is_train(image)],
    )


_SET = ImageSet(
    name="cars196",
    title="Stanford Cars",
    folder_names=("cars196", "stanford_cars"),
    layout="""\
cars_annos.mat
car_ims/000001.jpg, ...

or

devkit/cars_train_annos.mat
devkit/cars_meta.mat
devkit/cars_test_annos_withlabels.mat (or next to devkit; cars_test_annos.mat will not
    do, for it has no classes)
cars_train/00001.jpg, ...
cars_test/00001.jpg, ...

or a folder of images for each class, by its name, such as
Acura Integra Type R 2001/*.jpg, ...
in the folder itself, in images, or in train and test, or these in car_data""",
    home_page="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    train_counts=(8_054, 98),
    test_counts=(8_131, 98),
    read=_read,
)


def load(
    data_dir: str | os.PathLike[str] | None = None, check_counts: bool = True
) -> tuple[Split, Split]:
    """Returns the paths of the cars: the first 98 models to train on.

    Both `cars_train` and `cars_test`, which are for classification and have all
    classes, are split by class.

    Args:
        data_dir: The folder of the data set, or one that holds it as `cars196` or
            `stanford_cars`. One of three: `cars_annos.mat` and `car_ims`; `devkit`,
            `cars_train` and `cars_test`; or a folder of images for each class.
        check_counts: Whether to insist on the published numbers of images and
            classes. `False` takes a part of the data set. Defaults to `True`.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: paths of the images as strings, and
        int64 labels. Train classes are `0 ... C - 1`, test classes go on from `C`.
        With annotations, images are in their order (those of `cars_train` before
        those of `cars_test`) and classes in that of their ids; with folders, both
        are in the order of their names. The images of train and test are the same.

    Raises:
        FileNotFoundError: If the folder, a list or a listed image is missing.
        ValueError: If `data_dir` is `None`, the annotations are damaged, or the
            counts differ.
    """
    return _SET.load(data_dir, check_counts)


def class_names(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the name of each label, such as `"AM General Hummer SUV 2000"`.

    Args:
        data_dir: As in `load`.

    Returns:
        One name per label, the train classes first: as the annotations or
        `devkit/cars_meta.mat` have it, or the name of the folder.

    Raises:
        FileNotFoundError: If the folder or a list is missing.
        ValueError: If `data_dir` is `None`, or the annotations are damaged.
    """
    folder, train, test = _SET.find(data_dir)
    ids = class_ids(train, test)
    file = _file_of_all(folder)
    if not file and _files_of_devkit(folder):
        file = folder / "devkit" / "cars_meta.mat"
    if not file:
        return tuple(ids)
    names = read_class_names(file)
    if ids and max(ids) > len(names):
        raise ValueError(
            f"{file} must name every class. Received: {len(names)} names, and images "
            f"of class {max(ids)}"
        )
    return tuple(names[class_id - 1] for class_id in ids)
