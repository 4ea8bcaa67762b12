import numpy as np
import pytest
from iconify_files import drawing, write_package

from keras_tcm.datasets import icons, load
from keras_tcm.datasets.iconify_package import IconifyPackage

pytestmark = pytest.mark.backend_free


def package_files(node_modules, **of_package):
    """All packages, of which some have icons of these names."""
    number = 0
    packages = {}
    for name, version in icons.PACKAGES.items():
        names = of_package.get(name.replace("-", "_"), ())
        bodies = {icon: drawing(number + i) for i, icon in enumerate(names)}
        number += len(bodies)
        packages[name] = IconifyPackage(
            write_package(node_modules, name, version, bodies)
        )
    return packages


def chosen(packages):
    """What is drawn of each class of train and of test, as `package:icon`."""
    return tuple(
        {
            name: [f"{package.folder.name}:{icon}" for package, icon in drawings]
            for name, drawings in classes.items()
        }
        for classes in icons._choose(packages)
    )


def test_names_are_made_alike(tmp_path):
    packages = package_files(
        tmp_path,
        tabler=("mail-plus", "mail-plus-filled", "mail-plus-thin"),
        lucide=("plus-mail", "mail-plus-filled"),
        ph=("envelope-add", "envelope-add-fill", "envelope-add-bold"),
        ri=("mail-add-line", "mail-add"),
        fluent=("mail-add-24-regular", "mail-add-20-regular"),
    )
    train, test = chosen(packages)
    assert train == {}
    assert test == {
        # The most frequent of the names, and of several the first.
        "envelope-add": [
            *("tabler:mail-plus", "tabler:mail-plus-filled"),
            "lucide:plus-mail",
            *("ph:envelope-add", "ph:envelope-add-fill"),
            "ri:mail-add-line",
            "fluent:mail-add-24-regular",
        ]
    }


@pytest.mark.parametrize(
    ("icon", "endings", "stem"),
    [
        ("home", ("", "-fill"), "home"),
        ("home-fill", ("", "-fill"), "home"),
        ("home-line", ("-line", "-fill"), "home"),
        ("home", ("-line", "-fill"), ""),
        ("-fill", ("", "-fill"), ""),
    ],
)
def test_endings(icon, endings, stem):
    assert icons._stem(icon, endings) == stem


def test_synonyms_stand_for_themselves():
    for word, others in icons._SYNONYMS.items():
        assert icons._words(word) == icons._words(others.replace(" ", "-"))
    assert set(icons._ENDINGS) <= set(icons.PACKAGES)


def test_five_collections_and_halves_of_the_alphabet(tmp_path):
    five = ("tabler", "lucide", "ph", "bi", "carbon")
    names = ("anchor", "bell", "car", "door", "egg")
    files = dict.fromkeys(five, names)
    files["carbon"] = (*names[:4], "fish", "fish-filled")
    train, test = chosen(package_files(tmp_path, **files))
    assert list(train) == ["anchor", "bell"]
    assert list(test) == ["car", "door"]


def test_images(tmp_path, monkeypatch):
    pytest.importorskip("resvg_py", reason="needs the `svg` extra")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    five = ("tabler", "lucide", "ph", "bi", "carbon")
    files = dict.fromkeys(five, ("anchor", "bell"))
    files["tabler"] = ("anchor", "bell", "bell-filled")
    package_files(tmp_path / "node_modules", **files)
    (x, y), (x_test, y_test) = load("icons", tmp_path)
    assert icons.class_names(tmp_path) == ("anchor", "bell")
    assert x.shape == (5, 32, 32, 1)
    assert x.dtype == np.uint8
    assert y.tolist() == [0] * 5
    assert y_test.tolist() == [1] * 6
    for images in (x, x_test):  # Bright on dark.
        assert (images[:, 0, 0] == 0).all()
        assert (images.max(axis=(1, 2, 3)) == 255).all()
