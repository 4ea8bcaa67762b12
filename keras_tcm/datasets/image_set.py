"""A published data set of image files: what the sets of that kind have in common."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_tcm.datasets.image_list import (
    ListedImage,
    check_disjoint,
    check_files_exist,
    check_no_image_twice,
)
from keras_tcm.validation import check_choice

Split = tuple[np.ndarray, np.ndarray]
Images = list[ListedImage]


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """A folder of images and the lists that say which are for training.

    Attributes:
        name: Of the data set, in `datasets.load`.
        title: Its proper name.
        folder_names: Of its folder, within another that is `data_dir`.
        layout: What is in the folder, as a text for people.
        home_page: Where it comes from.
        train_counts: Published number of images and of classes in train.
        test_counts: The same in test.
        read: Returns the images of train and test, given a folder, in the order of
            the lists; `None` if the folder does not hold this data set.
    """

    name: str
    title: str
    folder_names: tuple[str, ...]
    layout: str
    home_page: str
    train_counts: tuple[int, int]
    test_counts: tuple[int, int]
    read: Callable[[Path], tuple[Images, Images] | None]

    def load(
        self, data_dir: str | os.PathLike[str] | None, check_counts: bool
    ) -> tuple[Split, Split]:
        """Returns the paths and labels of train and test, checked."""
        check_choice("check_counts", check_counts, (True, False))
        folder, train, test = self.find(data_dir)
        check_no_image_twice([*train, *test])
        check_disjoint(train, test)
        if check_counts:
            self._check_counts(folder, train, test)
        check_files_exist(folder, [*train, *test])
        ids = class_ids(train, test)
        return _arrays(folder, train, ids), _arrays(folder, test, ids)

    def find(
        self, data_dir: str | os.PathLike[str] | None
    ) -> tuple[Path, Images, Images]:
        """Returns the folder of the data set and the images of train and test.

        Args:
            data_dir: The folder, or one in which it has one of `folder_names`.

        Raises:
            ValueError: If `data_dir` is `None`, or a list is damaged.
            FileNotFoundError: If the data set is not there.
        """
        expected = (
            f"`data_dir` must be the folder of {self.title}, or one that holds it as "
            f"{' or '.join(map(repr, self.folder_names))}. It is not downloaded; see "
            f"{self.home_page}. Expected in the folder:\n\n{self.layout}\n\n"
            f"Received: data_dir={data_dir if data_dir is None else str(data_dir)!r}"
        )
        if data_dir is None:
            raise ValueError(expected)
        parent = Path(data_dir).expanduser()
        for folder in (*(parent / name for name in self.folder_names), parent):
            images = self.read(folder)
            if images is not None:
                return folder, *images
        if not parent.is_dir():
            expected += ", which is not a folder"
        raise FileNotFoundError(expected)

    def _check_counts(self, folder: Path, train: Images, test: Images) -> None:
        differences = []
        for split, images, counts in (
            ("train", train, self.train_counts),
            ("test", test, self.test_counts),
        ):
            found = len(images), len({image.class_id for image in images})
            for what, number, published in zip(
                ("images", "classes"), found, counts, strict=True
            ):
                if number != published:
                    differences.append(
                        f"{number:,} {split} {what} instead of {published:,}"
                    )
        if differences:
            raise ValueError(
                f"`data_dir` must hold the whole of {self.title}, or be loaded by "
                f"`datasets.{self.name}.load(data_dir, check_counts=False)`. "
                f"Received: {folder}, with {', '.join(differences)}"
            )


def class_ids(train: Sequence[ListedImage], test: Sequence[ListedImage]) -> list:
    """Returns the ids of the classes in the order of their labels."""
    return [
        class_id
        for images in (train, test)
        for class_id in sorted({image.class_id for image in images})
    ]


def _arrays(folder: Path, images: Images, ids: list) -> Split:
    labels = {class_id: label for label, class_id in enumerate(ids)}
    return (
        np.array([os.path.join(folder, image.path) for image in images], dtype="str"),
        np.array([labels[image.class_id] for image in images], dtype="int64"),
    )
