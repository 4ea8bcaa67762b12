import builtins
import re

import numpy as np
import pytest
from iconify_files import drawing, write_json, write_package

from keras_tcm.datasets import emoji, load
from keras_tcm.datasets.iconify_package import IconifyPackage

pytestmark = pytest.mark.backend_free

NAMES = ("grinning-face", "cat", "hammer", "red-heart", "family")
CHARACTERS = {
    "1f600": "grinning-face",
    "1f408": "cat",
    "1f528": "hammer",
    "2764": "red-heart",
    "1f468-200d-1f466": "family",
}
CATEGORIES = {
    "Smileys & Emotion": ["grinning-face", "red-heart"],
    "Animals & Nature": ["cat"],
    "People & Body": ["family"],
    "Objects": ["hammer"],
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "keras_tcm"


@pytest.fixture
def node_modules(tmp_path):
    """All packages, each with other drawings of the same emoji."""
    folder = tmp_path / "project" / "node_modules"
    for number, (name, version) in enumerate(emoji.PACKAGES.items()):
        bodies = {
            icon: drawing(9 * place + number, "#f0f0f0" if number else "#ff0000")
            for place, icon in enumerate(NAMES)
        }
        files = {"chars": CHARACTERS, "metadata": {"categories": CATEGORIES}}
        write_package(folder, name, version, bodies, **(files if not number else {}))
    return folder


def rewrite(node_modules, name, **options):
    bodies = {icon: drawing(50 + i) for i, icon in enumerate(NAMES)}
    changed = {"bodies": bodies, "version": emoji.PACKAGES[name], **options}
    return write_package(node_modules, name, **changed)


@pytest.fixture
def _rasteriser():
    pytest.importorskip("resvg_py", reason="needs the `svg` extra")


needs_rasteriser = pytest.mark.usefixtures("_rasteriser")


@needs_rasteriser
def test_groups_are_split_and_sequences_left_out(node_modules):
    (x, y), (x_test, y_test) = load("emoji", node_modules)
    # In the order of the groups of training, and of the index in each.
    assert emoji.class_names(node_modules) == (
        *("grinning-face", "red-heart", "cat"),
        "hammer",
    )
    assert y.tolist() == [0] * 9 + [1] * 9 + [2] * 9
    assert y_test.tolist() == [3] * 9
    assert y.dtype == y_test.dtype == np.int64
    assert x.shape == (27, 32, 32, 3)
    assert x.dtype == x_test.dtype == np.uint8
    # A white background, and the red of the first package.
    assert (x[:, 0, 0] == 255).all()
    assert x[0, 16, 5].tolist() == [255, 0, 0]


@needs_rasteriser
def test_the_folder_that_holds_node_modules(node_modules):
    first, _ = emoji.load(node_modules)
    second, _ = emoji.load(node_modules.parent)
    np.testing.assert_array_equal(first[0], second[0])


@needs_rasteriser
def test_aliases_hidden_and_turned_icons(node_modules):
    cat, face = drawing(80), drawing(81)
    aliases = {
        "cat": {"parent": "kitten"},
        "kitten": {"parent": "tom"},
        "hammer": {"parent": "tom", "hFlip": True},
        "red-heart": {"parent": "red-heart"},
    }
    bodies = {"tom": cat, "grinning-face": {"body": face, "hidden": True}}
    folder = rewrite(node_modules, "twemoji", bodies=bodies, aliases=aliases)
    package = IconifyPackage(folder)
    assert [package.find(name) for name in NAMES] == [None, "tom", None, None, None]
    (_, y), (_, y_test) = emoji.load(node_modules)
    assert np.bincount([*y, *y_test]).tolist() == [8, 8, 9, 8]


@needs_rasteriser
def test_images_of_several_classes_are_left_out(node_modules):
    for name in list(emoji.PACKAGES)[1:5]:
        bodies = {icon: drawing(i) for i, icon in enumerate(NAMES)}
        bodies["cat"] = bodies["hammer"]
        rewrite(node_modules, name, bodies=bodies)
    # Of the face and the heart one of the four is left, which are the same. The cat
    # and the hammer, which share them, have five of their own, which is too few.
    with pytest.raises(ValueError, match="no test class has 6 images"):
        emoji.load(node_modules)
    rewrite(node_modules, "noto-v1")
    (_, y), (_, y_test) = emoji.load(node_modules)
    assert emoji.class_names(node_modules) == (
        *("grinning-face", "red-heart", "cat"),
        "hammer",
    )
    assert np.bincount([*y, *y_test]).tolist() == [7, 7, 6, 6]


@needs_rasteriser
def test_images_are_kept_for_each_set_of_versions(node_modules, home, monkeypatch):
    (x, _), _ = emoji.load(node_modules)
    assert len(list(home.iterdir())) == 1
    for file in node_modules.rglob("icons.json"):
        file.write_text("not read again")
    np.testing.assert_array_equal(emoji.load(node_modules)[0][0], x)

    rewrite(node_modules, "openmoji", version="99.0.0")
    with (
        pytest.warns(UserWarning, match=r"openmoji 99\.0\.0 instead of 1\.2\.29"),
        pytest.raises(ValueError, match="noto"),
    ):
        emoji.load(node_modules)


def test_where_nothing_is_installed(tmp_path):
    with pytest.raises(ValueError, match=r"`data_dir`.*'emoji'") as error:
        emoji.load()
    command = re.search(r"npm install --.*", str(error.value))[0]
    for name, version in emoji.PACKAGES.items():
        assert f" @iconify-json/{name}@{version}" in command
    with pytest.raises(FileNotFoundError, match="without noto, noto-v1"):
        emoji.load(tmp_path)


def test_missing_package(node_modules):
    (node_modules / "@iconify-json" / "openmoji" / "package.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"without openmoji$"):
        emoji.load(node_modules)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("package.json", {"name": "no version"}),
        ("package.json", ["no fields"]),
        ("icons.json", {"prefix": "noto"}),
        ("icons.json", {"icons": {"cat": "no fields"}}),
        ("chars.json", []),
        ("metadata.json", {"categories": []}),
    ],
)
def test_files_of_another_kind(node_modules, file, content):
    path = node_modules / "@iconify-json" / "noto" / file
    write_json(path, content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        emoji.load(node_modules)


def test_damaged_file(node_modules):
    path = node_modules / "@iconify-json" / "noto" / "icons.json"
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} must be JSON"):
        emoji.load(node_modules)


@pytest.mark.parametrize(
    "body",
    [
        None,
        '<image href="/etc/passwd"/>',
        '<use xlink:href="other.svg#part"/>',
        '<path fill="url(http://host/file)" d="M0 0h9v9z"/>',
    ],
)
def test_drawings_that_refer_to_files(node_modules, body):
    bodies = {icon: drawing(i) for i, icon in enumerate(NAMES)}
    folder = rewrite(node_modules, "twemoji", bodies={**bodies, "cat": {"body": body}})
    package = IconifyPackage(folder)
    package.svg("hammer", 32)
    with pytest.raises(ValueError, match="'cat' that refers to no file"):
        package.svg("cat", 32)


@needs_rasteriser
def test_damaged_drawing(node_modules):
    bodies = {icon: drawing(i) for i, icon in enumerate(NAMES)} | {"cat": "<g>"}
    rewrite(node_modules, "twemoji", bodies=bodies)
    with pytest.raises(ValueError, match=r"twemoji.icons\.json .* of 'cat'"):
        emoji.load(node_modules)


def test_without_the_rasteriser(node_modules, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "resvg_py":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "keras-tcm\[svg\]"'):
        emoji.load(node_modules)
