"""A data set of icons that npm installs: what the sets of that kind have in common."""

import dataclasses
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_tcm.datasets.cache import Arrays, cached_arrays
from keras_tcm.datasets.iconify_package import IconifyPackage

Split = tuple[np.ndarray, np.ndarray]
Packages = Mapping[str, IconifyPackage]
# The drawings of each class by its name: packages, and the names of icons in them.
Classes = dict[str, list[tuple[IconifyPackage, str]]]
Images = dict[str, list[np.ndarray]]

IMAGE_SIZE = 32
# Change with anything that changes the images, beside the packages.
VERSION = 1
_SCOPE = "@iconify-json"


@dataclasses.dataclass(frozen=True)
class IconifySet:
    """Packages of icons, and which of them are a class.

    Attributes:
        name: Of the data set, in `datasets.load`.
        packages: The version of each package that the published counts are of.
        choose: Returns the classes of train and test, given the packages.
        min_images: Classes with fewer images are left out. An image that a class has
            twice counts once; one that several classes have, such as hearts of all
            colours in black and white, does not count, and is left out itself.
        grey: Whether images are bright on dark, `(32, 32, 1)`, as for icons in black;
            else RGB on white.
    """

    name: str
    packages: Mapping[str, str]
    choose: Callable[[Packages], tuple[Classes, Classes]]
    min_images: int
    grey: bool

    def load(self, data_dir: str | os.PathLike[str] | None) -> tuple[Split, Split]:
        """Returns the images and labels of train and test; draws them the first time.

        Args:
            data_dir: `node_modules`, or the folder that holds it.

        Raises:
            ValueError: If `data_dir` is `None`, or a package is damaged.
            FileNotFoundError: If a package, or a file of it, is missing.
            ImportError: If resvg-py or Pillow is not installed, for drawing.
        """
        keys = ("x_train", "y_train", "x_test", "y_test")
        arrays = self._arrays(keys, data_dir)
        x_train, y_train, x_test, y_test = (arrays[key] for key in keys)
        return (x_train, y_train), (x_test, y_test)

    def class_names(self, data_dir: str | os.PathLike[str] | None) -> tuple[str, ...]:
        """Returns the name of each label; arguments and errors are those of `load`."""
        return tuple(self._arrays(("names",), data_dir)["names"].tolist())

    @property
    def install_command(self) -> str:
        """What makes npm install the packages."""
        packages = (f"{_SCOPE}/{name}@{v}" for name, v in self.packages.items())
        return " ".join(["npm install --ignore-scripts", *packages])

    def _arrays(
        self, keys: Sequence[str], data_dir: str | os.PathLike[str] | None
    ) -> Arrays:
        packages = self._find(data_dir)
        versions = {name: package.version for name, package in packages.items()}
        self._check_versions(versions)
        # The images of other versions are kept in another file.
        digest = hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest()
        file_name = f"{self.name}-v{VERSION}-{digest[:12]}.npz"
        return cached_arrays(file_name, keys, lambda: self._generate(packages))

    def _find(self, data_dir: str | os.PathLike[str] | None) -> Packages:
        expected = (
            "`data_dir` must be the folder `node_modules` in which npm installed the "
            f"packages of the data set {self.name!r}, or the folder that holds it. "
            f"Install them by\n\n{self.install_command}\n\n"
            f"Received: data_dir={data_dir if data_dir is None else str(data_dir)!r}"
        )
        if data_dir is None:
            raise ValueError(expected)
        parent = Path(data_dir).expanduser()
        scopes = (parent / "node_modules" / _SCOPE, parent / _SCOPE)
        scope = next(filter(Path.is_dir, scopes), scopes[0])
        packages = {name: IconifyPackage(scope / name) for name in self.packages}
        missing = [
            name
            for name, p in packages.items()
            if not (p.folder / "package.json").is_file()
        ]
        if missing:
            raise FileNotFoundError(f"{expected}, without {', '.join(missing)}")
        return packages

    def _check_versions(self, versions: Mapping[str, str]) -> None:
        others = [
            f"{name} {version} instead of {self.packages[name]}"
            for name, version in versions.items()
            if version != self.packages[name]
        ]
        if others:
            warnings.warn(
                f"The data set {self.name!r} is read from other versions than those of "
                f"the published counts: {', '.join(others)}. Those come by\n\n"
                f"{self.install_command}",
                stacklevel=4,
            )

    def _generate(self, packages: Packages) -> Arrays:
        train, test = map(self._draw, self.choose(packages))
        _remove_repeated(train, test)
        arrays: Arrays = {}
        names: list[str] = []
        for split, classes in (("train", train), ("test", test)):
            kept = {n: x for n, x in classes.items() if len(x) >= self.min_images}
            if not kept:
                raise ValueError(
                    f"`data_dir` must hold the packages of the data set {self.name!r}. "
                    f"Received: packages in which no {split} class has "
                    f"{self.min_images} images"
                )
            labels = np.arange(len(names), len(names) + len(kept), dtype="int64")
            arrays[f"x_{split}"] = np.concatenate([np.stack(x) for x in kept.values()])
            arrays[f"y_{split}"] = np.repeat(labels, [len(x) for x in kept.values()])
            names += kept
        return {**arrays, "names": np.array(names, dtype="str")}

    def _draw(self, classes: Classes) -> Images:
        return {
            name: [
                255 - image[..., :1] if self.grey else image
                for image in (draw(package, icon) for package, icon in icons)
            ]
            for name, icons in classes.items()
        }


def _remove_repeated(*splits: Images) -> None:
    """Leaves out, in place, the images that a class has already or another has too."""
    classes_of: dict[bytes, set[str]] = {}
    for classes in splits:
        for name, images in classes.items():
            for image in images:
                classes_of.setdefault(image.tobytes(), set()).add(name)
    for classes in splits:
        for images in classes.values():
            once = {image.tobytes(): image for image in images}
            images[:] = [x for key, x in once.items() if len(classes_of[key]) == 1]


def draw(package: IconifyPackage, name: str) -> np.ndarray:
    """Draws an icon on white.

    Args:
        package: The package.
        name: The name of the icon in it.

    Returns:
        uint8 array of shape `(32, 32, 3)`. What takes the colour of the text is black.

    Raises:
        ImportError: If resvg-py or Pillow is not installed.
        ValueError: If the icon is damaged.
    """
    try:
        import resvg_py
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'Drawings in SVG need resvg-py and Pillow: pip install "keras-tcm[svg]"'
        ) from error
    svg = package.svg(name, IMAGE_SIZE)
    try:
        # The fonts of this machine are not part of the data.
        png = resvg_py.svg_to_bytes(svg, background="white", skip_system_fonts=True)
    except ValueError as error:
        raise ValueError(
            f"{package.folder / 'icons.json'} must have a drawing of {name!r}. "
            f"Received: {error}"
        ) from error
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))
