import re
import shutil

import pytest
from image_files import (
    assert_same_classes,
    assert_split,
    jpeg,
    publish,
    replace_line,
    write_images,
    write_lines,
)

from keras_tcm.datasets import cub200, load

ALBATROSS, LAYSAN = "001.Black_footed_Albatross", "002.Laysan_Albatross"
PELICAN, THRASHER = "101.White_Pelican", "150.Sage_Thrasher"
NAMES = [
    f"{ALBATROSS}/a.jpg",
    f"{THRASHER}/b.jpg",
    f"{LAYSAN}/c.jpg",
    f"{PELICAN}/d.jpg",
    f"{ALBATROSS}/e.jpg",
    f"{THRASHER}/f.jpg",
]


@pytest.fixture
def folder(tmp_path):
    """Six images of four species, two on each side of the split."""
    folder = tmp_path / "CUB_200_2011"
    write_images(folder / "images", NAMES)
    write_lines(folder / "images.txt", [f"{i} {n}" for i, n in enumerate(NAMES, 1)])
    # In another order than the images: it is the id that counts.
    labels = ["6 150", "5 1", "4 101", "3 2", "2 150", "1 1"]
    write_lines(folder / "image_class_labels.txt", labels)
    names = [f"{int(name[:3])} {name}" for name in (ALBATROSS, LAYSAN, "003.Sooty")]
    names += [f"101 {PELICAN}", f"150 {THRASHER}", "200 200.Common_Yellowthroat"]
    write_lines(folder / "classes.txt", names)
    return folder


def load_part(data_dir):
    return cub200.load(data_dir, check_counts=False)


@pytest.mark.parametrize("kind", ["folder", "parent", "parent of another name", "str"])
def test_paths_and_labels(folder, kind):
    data_dir = folder
    if kind == "parent":
        data_dir = folder.parent
    elif kind == "parent of another name":
        data_dir = folder.parent
        folder = folder.rename(folder.parent / "cub200")
    elif kind == "str":
        data_dir = str(folder)
    train, test = load_part(data_dir)

    assert_split(train, folder / "images", [NAMES[i] for i in (0, 2, 4)], [0, 1, 0])
    assert_split(test, folder / "images", [NAMES[i] for i in (1, 3, 5)], [3, 2, 3])
    assert cub200.class_names(data_dir) == (ALBATROSS, LAYSAN, PELICAN, THRASHER)


def test_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    train, _ = load_part("~/CUB_200_2011")
    assert_split(train, folder / "images", [NAMES[i] for i in (0, 2, 4)], [0, 1, 0])


def test_species_100_trains_and_101_tests(folder):
    replace_line(folder / "image_class_labels.txt", 4, "3 100")
    (_, y_train), (_, y_test) = load_part(folder)
    assert y_train.tolist() == [0, 1, 0]
    assert y_test.tolist() == [3, 2, 3]


def test_published_counts_are_accepted(tmp_path):
    """Lists of the whole data set, and no images, which are looked for last."""
    counts = [5864 // 100] * 100 + [5924 // 100] * 100
    for species in (*range(64), *range(100, 124)):
        counts[species] += 1
    rows = [
        (f"{species:03}/{i}.jpg", species)
        for species, count in enumerate(counts, 1)
        for i in range(count)
    ]
    for file, column in (("images.txt", 0), ("image_class_labels.txt", 1)):
        lines = [f"{i} {row[column]}" for i, row in enumerate(rows, 1)]
        write_lines(tmp_path / file, lines)
    with pytest.raises(FileNotFoundError, match=r"11,788 of 11,788 images are missing"):
        load("cub200", tmp_path)


def test_a_part_is_refused(folder):
    differences = (
        "3 train images instead of 5,864, 2 train classes instead of 100, "
        "3 test images instead of 5,924, 2 test classes instead of 100"
    )
    with pytest.raises(ValueError, match=rf"check_counts=False.*{differences}$"):
        load("cub200", folder)


def test_only_what_differs_is_listed(folder, monkeypatch):
    publish(monkeypatch, cub200, (3, 2), (4, 2))
    with pytest.raises(ValueError, match=r", with 3 test images instead of 4$"):
        load("cub200", folder)


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("images.txt", 3, "3", r"images.txt, line 3 must have 2 columns.*'3'"),
        ("images.txt", 3, "", r"images.txt, line 3 must have 2 columns.*''"),
        ("images.txt", 3, "x a.jpg", r"images.txt, line 3: `image_id` must .*'x'"),
        ("images.txt", 3, "9 a.jpg", r"images.txt, line 3 must .* class .*image_id 9"),
        ("images.txt", 3, "2 a.jpg", r"images.txt, line 3 must .*once.*image_id 2"),
        ("images.txt", 3, None, r"images.txt must name every .*image_id 3"),
        (
            "images.txt",
            3,
            f"3 {NAMES[0]}",
            r"images.txt, line 3 must .*not listed before.*images.txt, line 1",
        ),
        ("image_class_labels.txt", 2, "5", r"labels.txt, line 2 must have 2 columns"),
        ("image_class_labels.txt", 2, "5 1 1", r"labels.txt, line 2 must have 2 col"),
        (
            "image_class_labels.txt",
            2,
            "5 1.0",
            r"labels.txt, line 2: `class_id` .*1.0",
        ),
        ("image_class_labels.txt", 2, "6 1", r"labels.txt, line 2 must not .*id 6"),
        ("image_class_labels.txt", 2, None, r"images.txt, line 5 must .*image_id 5"),
    ],
)
def test_a_damaged_list_is_named(folder, file, line, text, message):
    replace_line(folder / file, line, text)
    with pytest.raises(ValueError, match=message):
        load_part(folder)


def test_a_list_that_is_not_text(folder):
    (folder / "images.txt").write_bytes(jpeg())
    with pytest.raises(ValueError, match=r"images\.txt must be a text file"):
        load_part(folder)


def test_a_missing_list_is_named(folder):
    (folder / "image_class_labels.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"image_class_labels\.txt"):
        load_part(folder)


def test_missing_images_are_counted(folder):
    (folder / "images" / NAMES[5]).unlink()
    shutil.rmtree(folder / "images" / LAYSAN)
    with pytest.raises(
        FileNotFoundError,
        match=rf"images\.txt, line 3 .*{re.escape(NAMES[2])}.* 2 of 6 images",
    ):
        load_part(folder)


def test_missing_name(folder):
    replace_line(folder / "classes.txt", 4, None)
    with pytest.raises(ValueError, match=r"classes\.txt must name .*class_id 101"):
        cub200.class_names(folder)


@pytest.mark.parametrize("function", [load_part, cub200.load, cub200.class_names])
def test_a_folder_without_it(tmp_path, function):
    message = (
        r"(?s)`data_dir` must .*'CUB_200_2011' or 'cub200'.*vision\.caltech\.edu.*"
        r"image_class_labels\.txt.*Received: data_dir="
    )
    with pytest.raises(FileNotFoundError, match=message + f"'{tmp_path}'$"):
        function(tmp_path)
    with pytest.raises(FileNotFoundError, match=message + ".*/no', which is not a"):
        function(tmp_path / "no")
    with pytest.raises(ValueError, match=message + "None$"):
        function(None)
    with pytest.raises(ValueError, match=message + "None$"):
        load("cub200")


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_are_those_of_pytorch_metric_learning(folder, split, pml):
    from pytorch_metric_learning.datasets import CUB

    # It wants both lists in the same order, as they are distributed.
    labels = folder / "image_class_labels.txt"
    write_lines(labels, sorted(labels.read_text().splitlines()))
    peer = CUB(str(folder.parent), split)
    x, y = load_part(folder.parent)[split == "test"]
    assert x.tolist() == peer.paths
    assert_same_classes(y, peer.labels)
