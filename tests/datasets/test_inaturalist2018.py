import pytest
from image_files import assert_split, publish, replace_line, write_images, write_lines

from keras_tcm.datasets import inaturalist2018, load

TRAIN = [
    "train_val2018/Plantae/7477/3b60.jpg",
    "train_val2018/Aves/10/a.jpg",
    "train_val2018/Aves/9/b.jpg",
    "train_val2018/Aves/10/c.jpg",
]
TEST = [
    "train_val2018/Fungi/100/d.jpg",
    "train_val2018/Aves/2761/e.jpg",
    "train_val2018/Fungi/100/f.jpg",
]
LISTS = ("Inaturalist_train_set1.txt", "Inaturalist_test_set1.txt")


@pytest.fixture
def folder(tmp_path):
    """Seven images of five species."""
    folder = tmp_path / "inaturalist2018"
    write_images(folder, TRAIN + TEST)
    for name, paths in zip(LISTS, (TRAIN, TEST), strict=True):
        write_lines(folder / "Inat_dataset_splits" / name, paths)
    return folder


def load_part(data_dir):
    return inaturalist2018.load(data_dir, check_counts=False)


@pytest.mark.parametrize("place", ["folder", "parent", "lists next to images"])
def test_paths_and_labels(folder, place):
    if place == "lists next to images":
        for name in LISTS:
            (folder / "Inat_dataset_splits" / name).rename(folder / name)
    data_dir = folder.parent if place == "parent" else folder
    train, test = load_part(data_dir)

    # Species 9 comes before species 10.
    assert_split(train, folder, TRAIN, [2, 1, 0, 1])
    assert_split(test, folder, TEST, [4, 3, 4])
    assert inaturalist2018.class_names(data_dir) == (
        *("Aves/9", "Aves/10", "Plantae/7477"),
        *("Aves/2761", "Fungi/100"),
    )


def test_counts(folder, monkeypatch):
    differences = (
        "4 train images instead of 325,846, 3 train classes instead of 5,690, "
        "3 test images instead of 136,093, 2 test classes instead of 2,452"
    )
    with pytest.raises(ValueError, match=rf"check_counts=False.*{differences}$"):
        load("inaturalist2018", folder)
    publish(monkeypatch, inaturalist2018, (4, 3), (3, 2))
    (x_train, _), _ = load("inaturalist2018", folder)
    assert len(x_train) == 4


def test_published_counts_are_those_of_the_competition():
    """Categories and images of visipedia/inat_comp, and 70% of each, rounded down."""
    categories = (2917, 2031, 1258, 369, 321, 284, 262, 234, 178, 144, 114, 25, 4, 1)
    train, test = inaturalist2018._SET.train_counts, inaturalist2018._SET.test_counts
    assert train[0] + test[0] == 437_513 + 24_426
    assert train[1] + test[1] == sum(categories) == 8142
    assert train[1] == sum(count * 7 // 10 for count in categories)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (2, "2761/e.jpg", r"test_set1.txt, line 2 must be a path such as .*'2761/e"),
        (2, "", r"test_set1.txt, line 2 must be a path such as .*''"),
        (2, "a//2761/e.jpg", r"test_set1.txt, line 2 must be a path"),
        (2, "/2761/e.jpg", r"test_set1.txt, line 2 must be a path"),
        (2, "a/Aves/robin/e.jpg", r"test_set1.txt, line 2: `species` must .*'robin'"),
        (2, TEST[0], r"test_set1.txt, line 2 must .*test_set1.txt, line 1"),
        (2, TRAIN[3], r"test_set1.txt, line 2 must .*train_set1.txt, line 4"),
        (
            2,
            "train_val2018/Aves/10/g.jpg",
            r"test_set1.txt, line 2 must .*not in train.*'Aves', 10.*train_set1.txt, l",
        ),
    ],
)
def test_a_damaged_list_is_named(folder, line, text, message):
    replace_line(folder / "Inat_dataset_splits" / LISTS[1], line, text)
    with pytest.raises(ValueError, match=message):
        load_part(folder)


@pytest.mark.parametrize("name", LISTS)
def test_a_missing_list_is_named(folder, name):
    (folder / "Inat_dataset_splits" / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_part(folder)


def test_a_missing_image_is_named(folder):
    (folder / TRAIN[2]).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train_set1.txt, line 3 .*b\.jpg.* 1 of 7 images"
    ):
        load_part(folder)


def test_without_the_lists_the_message_says_where_they_are(folder):
    for name in LISTS:
        (folder / "Inat_dataset_splits" / name).unlink()
    message = (
        r"(?s)`data_dir` must .*visipedia/inat_comp.*images.*Andrew-Brown1/Smooth_AP.*"
        r"lists.*Inaturalist_train_set1\.txt.*Received: "
    )
    with pytest.raises(FileNotFoundError, match=message):
        load("inaturalist2018", folder)
    with pytest.raises(ValueError, match=message):
        load("inaturalist2018")
