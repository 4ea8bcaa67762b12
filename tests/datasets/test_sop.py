import pytest
from image_files import (
    assert_same_classes,
    assert_split,
    publish,
    replace_line,
    write_images,
    write_lines,
)

from keras_tcm.datasets import load, sop

HEADER = "image_id class_id super_class_id path"
TRAIN = ["1 1 1 bicycle_final/11_0.JPG", "2 1 1 bicycle_final/11_1.JPG"]
TRAIN += ["3 2 1 bicycle_final/12_0.JPG", "4 7 4 chair_final/21_0.JPG"]
TEST = ["5 11320 4 chair_final/31_0.JPG", "6 11319 12 toaster_final/41_0.JPG"]
TEST += ["7 11320 4 chair_final/31_1.JPG"]
TRAIN_PATHS = [line.split()[3] for line in TRAIN]
TEST_PATHS = [line.split()[3] for line in TEST]


@pytest.fixture
def folder(tmp_path):
    """Seven images of five articles."""
    folder = tmp_path / "Stanford_Online_Products"
    write_images(folder, TRAIN_PATHS + TEST_PATHS)
    write_lines(folder / "Ebay_train.txt", [HEADER, *TRAIN])
    write_lines(folder / "Ebay_test.txt", [HEADER, *TEST])
    return folder


def load_part(data_dir):
    return sop.load(data_dir, check_counts=False)


@pytest.mark.parametrize("in_parent", [False, True])
def test_paths_and_labels(folder, in_parent):
    train, test = load_part(folder.parent if in_parent else folder)
    assert_split(train, folder, TRAIN_PATHS, [0, 0, 1, 2])
    assert_split(test, folder, TEST_PATHS, [4, 3, 4])


def test_line_ends_of_windows_and_empty_lines_at_the_end(folder):
    (folder / "Ebay_train.txt").write_bytes("\r\n".join([HEADER, *TRAIN]).encode())
    (folder / "Ebay_test.txt").write_text("\n".join([HEADER, *TEST, "", ""]))
    train, test = load_part(folder)
    assert_split(train, folder, TRAIN_PATHS, [0, 0, 1, 2])
    assert_split(test, folder, TEST_PATHS, [4, 3, 4])


def test_counts(folder, monkeypatch):
    differences = (
        "4 train images instead of 59,551, 3 train classes instead of 11,318, "
        "3 test images instead of 60,502, 2 test classes instead of 11,316"
    )
    with pytest.raises(ValueError, match=rf"sop\.load.*check_counts.*{differences}$"):
        load("sop", folder)
    publish(monkeypatch, sop, (4, 3), (3, 2))
    (x_train, _), _ = load("sop", folder)
    assert len(x_train) == 4


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("Ebay_train.txt", 1, None, r"train.txt, line 1 must be 'image_id class_id "),
        ("Ebay_test.txt", 3, "6 11319", r"test.txt, line 3 must have 4 columns"),
        ("Ebay_test.txt", 3, "6 x 4 a", r"test.txt, line 3: `class_id` must .*'x'"),
        ("Ebay_test.txt", 3, "6 -1 4 a", r"test.txt, line 3: `class_id` must .*'-1'"),
        ("Ebay_test.txt", 3, "6 ² 4 a", r"test.txt, line 3: `class_id` must .*'²'"),
        (
            "Ebay_test.txt",
            3,
            f"6 11319 4 {TEST_PATHS[0]}",
            r"test.txt, line 3 must .*not listed before.*test.txt, line 2",
        ),
        (
            "Ebay_test.txt",
            3,
            f"6 11319 4 {TRAIN_PATHS[2]}",
            r"test.txt, line 3 must .*not listed before.*train.txt, line 4",
        ),
        (
            "Ebay_test.txt",
            3,
            f"6 7 4 {TEST_PATHS[1]}",
            r"test.txt, line 3 must .*class that is not in train.*class 7, as in "
            r".*train.txt, line 5",
        ),
        ("Ebay_test.txt", 1, "\n\n\n", r"test.txt, line 1 must be 'image_id"),
    ],
)
def test_a_damaged_list_is_named(folder, file, line, text, message):
    replace_line(folder / file, line, text)
    with pytest.raises(ValueError, match=message):
        load_part(folder)


@pytest.mark.parametrize("name", ["Ebay_train.txt", "Ebay_test.txt"])
def test_a_missing_list_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_part(folder)


def test_a_missing_image_is_named(folder):
    (folder / TEST_PATHS[1]).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"Ebay_test.txt, line 3 .*toaster.* 1 of 7 images"
    ):
        load_part(folder)


def test_a_folder_without_it(tmp_path):
    message = r"(?s)`data_dir` must .*cvgl\.stanford\.edu.*Ebay_train\.txt.*Received: "
    with pytest.raises(FileNotFoundError, match=message):
        load("sop", tmp_path)
    with pytest.raises(ValueError, match=message):
        load("sop")


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_are_those_of_pytorch_metric_learning(folder, split, pml):
    from pytorch_metric_learning.datasets import StanfordOnlineProducts

    peer = StanfordOnlineProducts(str(folder.parent), split)
    x, y = load_part(folder.parent)[split == "test"]
    assert x.tolist() == peer.paths
    assert_same_classes(y, peer.labels)
