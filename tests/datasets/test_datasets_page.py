"""What docs/datasets.md says works."""

import pathlib
import re

import keras
import numpy as np
import pytest
from image_files import publish, write_images, write_lines

from keras_tcm.datasets import cars196, cub200, emoji, icons, inaturalist2018, sop

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "datasets.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
RESNET = '("resnet50", (224, 224, 3), weights="imagenet")'


def small_backbone():
    layers = keras.layers
    return [
        keras.Input((8, 8, 3)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
    ]


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """`~/data` with four images of each of six birds, and two articles."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "data" / "CUB_200_2011"
    names = [(f"{i:03}/{j}.jpg", i) for i in (1, 2, 3, 91, 101, 102) for j in range(4)]
    write_images(folder / "images", [name for name, _ in names])
    rng = np.random.default_rng(0)
    for name, _ in names:
        noise = rng.integers(0, 256, (8, 8, 3)).astype("uint8")
        keras.utils.save_img(folder / "images" / name, noise, scale=False)
    for file, column in (("images.txt", 0), ("image_class_labels.txt", 1)):
        lines = [f"{i} {row[column]}" for i, row in enumerate(names, 1)]
        write_lines(folder / file, lines)
    publish(monkeypatch, cub200, (16, 4), (8, 2))

    folder = tmp_path / "data" / "sop"
    for number, file in enumerate(("Ebay_train.txt", "Ebay_test.txt"), 1):
        path = f"bicycle_final/{number}.JPG"
        write_images(folder, [path])
        header = "image_id class_id super_class_id path"
        write_lines(folder / file, [header, f"{number} {number} 1 {path}"])


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir")
def test_the_code_runs():
    smaller = {
        "held_out = y >= 90": "held_out = y >= 2",
        "classes_per_batch=32": "classes_per_batch=2",
        f"keras_tcm.models.backbone{RESNET}": "keras.Sequential(small_backbone)",
        "224": "8",
        "epochs=20": "epochs=1",
        "(validation, y[held_out])": "(validation, y[held_out], far_range=(0.1, 0.5))",
        "y_test)\n": "y_test, far_range=(0.1, 0.5))\n",
    }
    code = "\n".join(BLOCKS)
    for original, replacement in smaller.items():
        assert original in code
        code = code.replace(original, replacement)
    names = {"small_backbone": small_backbone()}
    exec(compile(code, "docs/datasets.md", "exec"), names)
    assert [len(x) for x, _ in (names["train"], names["test"])] == [1, 1]
    assert sorted(names["sampler"].classes) == [0, 1]
    assert "val_opis" in names["model"].history.history
    assert list(names["result"].classes) == [4, 5]


def test_counts_are_those_that_are_checked():
    for module in (cub200, cars196, sop, inaturalist2018):
        name = module._SET.name
        counts = [*module._SET.train_counts, *module._SET.test_counts]
        columns = "{:,}, {:,} | {:,}, {:,}".format(*counts)
        (row,) = re.findall(rf'^\| \[`"{name}"`\].*$', TEXT, flags=re.MULTILINE)
        assert f"| paths | {columns} |" in row
        assert f"### {name}\n" in TEXT


def test_packages_are_those_that_are_read():
    commands = re.findall(r"```\n(npm install .*?)\n```", TEXT, flags=re.DOTALL)
    words = [command.replace("\\\n", " ").split() for command in commands]
    assert words == [s._SET.install_command.split() for s in (emoji, icons)]


def test_anchors_exist():
    anchors = set(re.findall(r"^#+ (\w+)$", TEXT, flags=re.MULTILINE))
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
