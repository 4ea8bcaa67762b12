import shutil
import sys

import numpy as np
import pytest
from image_files import assert_split, jpeg, publish, write_images

from keras_tcm.datasets import cars196, load

scipy_io = pytest.importorskip("scipy.io")

# Ids of the devkit: the makes are in the order of the alphabet, their models are not.
CLASSES = {
    1: "AM General Hummer SUV 2000",
    2: "Acura RL Sedan 2012",
    6: "Acura Integra Type R 2001",
    98: "FIAT 500 Abarth 2012",
    99: "FIAT 500 Convertible 2012",
    100: "Ferrari FF Coupe 2012",
    174: "Ram C/V Cargo Van Minivan 2012",
    196: "smart fortwo Convertible 2012",
}
ALL_NAMES = [CLASSES.get(i, f"Make Model {i} Sedan 2012") for i in range(1, 197)]
# Of images 1, 2, ... of `car_ims`.
CLASS_OF = [1, 1, 2, 6, 98, 99, 100, 174, 196, 196]
# Of `cars_train` and `cars_test`, each from image 1.
CLASS_OF_TRAIN, CLASS_OF_TEST = [196, 6, 1, 99], [1, 100, 98, 2, 174, 196]

FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
PART = {"check_counts": False}


def struct_array(rows, names):
    """A MATLAB struct array: of one row, each field an object."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for index, row in enumerate(rows):
        array[0, index] = tuple(row)
    return array


def cell_array(texts):
    array = np.empty((1, len(texts)), dtype=object)
    array[0] = texts
    return array


def annotations_of_all(class_of=CLASS_OF):
    rows = [
        (f"car_ims/{i:06}.jpg", *map(np.uint16, (1, 2, 3, 4, class_id)), np.uint8(0))
        for i, class_id in enumerate(class_of, 1)
    ]
    return struct_array(rows, ("relative_im_path", *FIELDS, "class", "test"))


def annotations_of_devkit(class_of):
    rows = [
        (*map(np.uint16, (1, 2, 3, 4, class_id)), f"{i:05}.jpg")
        for i, class_id in enumerate(class_of, 1)
    ]
    return struct_array(rows, (*FIELDS, "class", "fname"))


def save(file, **variables):
    file.parent.mkdir(parents=True, exist_ok=True)
    scipy_io.savemat(file, variables)


@pytest.fixture
def folder(tmp_path):
    """`cars_annos.mat` and `car_ims`."""
    folder = tmp_path / "cars196"
    write_images(folder, [f"car_ims/{i:06}.jpg" for i in range(1, 11)])
    save(
        folder / "cars_annos.mat",
        annotations=annotations_of_all(),
        class_names=cell_array(ALL_NAMES),
    )
    return folder


@pytest.fixture
def devkit_folder(tmp_path):
    """`devkit`, `cars_train` and `cars_test`."""
    folder = tmp_path / "stanford_cars"
    write_images(folder, [f"cars_train/{i:05}.jpg" for i in range(1, 5)])
    write_images(folder, [f"cars_test/{i:05}.jpg" for i in range(1, 7)])
    devkit = folder / "devkit"
    save(devkit / "cars_meta.mat", class_names=cell_array(ALL_NAMES))
    for name, class_of in (
        ("cars_train_annos", CLASS_OF_TRAIN),
        ("cars_test_annos_withlabels", CLASS_OF_TEST),
    ):
        save(devkit / f"{name}.mat", annotations=annotations_of_devkit(class_of))
    return folder


@pytest.mark.parametrize("in_parent", [False, True])
def test_annotations_of_all_images(folder, in_parent):
    data_dir = folder.parent if in_parent else folder
    train, test = cars196.load(data_dir, **PART)

    paths = [f"car_ims/{i:06}.jpg" for i in range(1, 11)]
    assert_split(train, folder, paths[:5], [0, 0, 1, 2, 3])
    assert_split(test, folder, paths[5:], [4, 5, 6, 7, 7])
    assert cars196.class_names(data_dir) == tuple(CLASSES.values())


@pytest.mark.parametrize("labels", ["devkit/", ""])
@pytest.mark.parametrize("in_parent", [False, True])
def test_annotations_of_the_devkit(devkit_folder, in_parent, labels):
    name = "cars_test_annos_withlabels.mat"
    (devkit_folder / "devkit" / name).rename(devkit_folder / labels / name)
    data_dir = devkit_folder.parent if in_parent else devkit_folder
    train, test = cars196.load(data_dir, **PART)

    train_paths = [f"cars_train/{i:05}.jpg" for i in (2, 3)]
    train_paths += [f"cars_test/{i:05}.jpg" for i in (1, 3, 4)]
    assert_split(train, devkit_folder, train_paths, [2, 0, 0, 3, 1])
    test_paths = [f"cars_train/{i:05}.jpg" for i in (1, 4)]
    test_paths += [f"cars_test/{i:05}.jpg" for i in (2, 5, 6)]
    assert_split(test, devkit_folder, test_paths, [7, 4, 5, 6, 7])
    assert cars196.class_names(data_dir) == tuple(CLASSES.values())


@pytest.mark.parametrize("parent", ["", "images"])
@pytest.mark.parametrize("space", [" ", "_"])
def test_one_folder_for_each_class(tmp_path, parent, space):
    # The slash of "C/V" cannot be in the name of a folder.
    names = [name.replace("/", "-").replace(" ", space) for name in CLASSES.values()]
    for name in names:
        write_images(tmp_path / parent / name, ["b.jpg", "a.JPG"])
        (tmp_path / parent / name / ".DS_Store").touch()
        (tmp_path / parent / name / "._a.jpg").touch()
    (tmp_path / parent / "photos").mkdir(exist_ok=True)
    train, test = cars196.load(tmp_path, **PART)

    # Integra, of id 6, comes before RL, of id 2; on each side of the split there are
    # the same classes as by their ids.
    in_order = [names[i] for i in (0, 2, 1, 3, 4, 5, 6, 7)]
    paths = [f"{name}/{file}" for name in in_order for file in ("a.JPG", "b.jpg")]
    assert_split(train, tmp_path / parent, paths[:8], [0, 0, 1, 1, 2, 2, 3, 3])
    assert_split(test, tmp_path / parent, paths[8:], [4, 4, 5, 5, 6, 6, 7, 7])
    assert cars196.class_names(tmp_path) == tuple(in_order)


@pytest.mark.parametrize("parent", ["", "car_data/", "car_data/car_data/"])
def test_folders_of_the_classification_task_are_put_together(
    tmp_path, parent, monkeypatch
):
    names = CLASSES[1], CLASSES[98], CLASSES[99]
    paths = [
        f"{parent}{split}/{name}/00001.jpg"
        for name in names
        for split in ("train", "test")
    ]
    write_images(tmp_path, paths)
    # The annotations are not needed, and what would read them is not loaded.
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    train, test = cars196.load(tmp_path, **PART)

    assert_split(train, tmp_path, paths[:4], [0, 0, 1, 1])
    assert_split(test, tmp_path, paths[4:], [2, 2])


def test_counts(folder, monkeypatch):
    differences = (
        "5 train images instead of 8,054, 4 train classes instead of 98, "
        "5 test images instead of 8,131, 4 test classes instead of 98"
    )
    with pytest.raises(ValueError, match=rf"check_counts=False.*{differences}$"):
        load("cars196", folder)
    publish(monkeypatch, cars196, (5, 4), (5, 4))
    (x_train, _), _ = load("cars196", folder)
    assert len(x_train) == 5


def spoil(annotations, field, value):
    annotations[0, 2][field] = value
    return {"annotations": annotations}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"images": np.zeros(3)}, r"with the variable 'annotations'.*KeyError"),
        ({"annotations": np.zeros(3)}, r"'relative_im_path'.*fields of no struct"),
        (
            {"annotations": annotations_of_devkit([1])},
            r"'relative_im_path'.*fields bbox_x1, .*, class, fname",
        ),
        (
            {"annotations": struct_array([("a.jpg", 1)], ("relative_im_path", "id"))},
            r"the field 'class'.*fields relative_im_path, id",
        ),
        (spoil(annotations_of_all(), "class", np.zeros((0, 0))), r"annotation 3 must"),
        (spoil(annotations_of_all(), "class", np.uint8(0)), r"annotation 3 .* and 0"),
        (spoil(annotations_of_all(), "class", 2.5), r"annotation 3 must .* and 2.5"),
        (spoil(annotations_of_all(), "class", np.nan), r"annotation 3 must .* and nan"),
        (
            spoil(annotations_of_all(), "class", "two"),
            r"annotation 3 .* and 'two'",
        ),
        (spoil(annotations_of_all(), "relative_im_path", 3), r"annotation 3 must"),
        (
            spoil(annotations_of_all(), "relative_im_path", "car_ims/000001.jpg"),
            r"annotation 3 must .*not listed before.*annotation 1",
        ),
    ],
)
def test_damaged_annotations_are_named(folder, variables, message):
    save(folder / "cars_annos.mat", **variables)
    with pytest.raises(ValueError, match=rf"cars_annos\.mat.*{message}"):
        cars196.load(folder, **PART)


@pytest.mark.parametrize("how", ["empty", "text", "image", "truncated", "version 7.3"])
def test_a_file_that_is_not_of_matlab_is_named(folder, how):
    file = folder / "cars_annos.mat"
    content = {
        "empty": b"",
        "text": b"These are words.",
        "image": jpeg(),
        "truncated": file.read_bytes()[:500],
        "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512),
    }
    file.write_bytes(content[how])
    with pytest.raises(ValueError, match=r"cars_annos\.mat must be a MATLAB file"):
        cars196.load(folder, **PART)


def test_classes_as_floating_point_numbers(folder):
    annotations = annotations_of_all()
    annotations["class"] = [[float(value) for value in annotations["class"][0]]]
    save(folder / "cars_annos.mat", annotations=annotations)
    (_, y_train), _ = cars196.load(folder, **PART)
    assert y_train.tolist() == [0, 0, 1, 2, 3]


def test_missing_image_is_named(devkit_folder):
    (devkit_folder / "cars_test" / "00002.jpg").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"withlabels\.mat, annotation 2 .*cars_test/00002\.jpg.* 1 of 10 images",
    ):
        cars196.load(devkit_folder, **PART)


def test_missing_names(folder, devkit_folder):
    save(
        folder / "cars_annos.mat",
        annotations=annotations_of_all(),
        class_names=cell_array(ALL_NAMES[:195]),
    )
    with pytest.raises(ValueError, match=r"cars_annos\.mat must name .*195.*class 196"):
        cars196.class_names(folder)
    (devkit_folder / "devkit" / "cars_meta.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"cars_meta\.mat"):
        cars196.class_names(devkit_folder)


def test_annotations_without_their_images_give_way_to_the_devkit(devkit_folder, folder):
    shutil.copy(folder / "cars_annos.mat", devkit_folder)
    (x_train, _), (x_test, _) = cars196.load(devkit_folder, **PART)
    assert all("stanford_cars/cars_t" in path for path in (*x_train, *x_test))


@pytest.mark.parametrize("lack", ["everything", "images", "labels"])
def test_a_folder_without_it(tmp_path, folder, devkit_folder, lack):
    data_dir = tmp_path / "nothing"
    data_dir.mkdir()
    if lack == "images":
        shutil.rmtree(folder / "car_ims")
        data_dir = folder
    elif lack == "labels":
        labels = devkit_folder / "devkit" / "cars_test_annos_withlabels.mat"
        labels.rename(labels.with_name("cars_test_annos.mat"))
        data_dir = devkit_folder
    message = (
        r"(?s)`data_dir` must .*ai\.stanford\.edu.*cars_annos\.mat.*"
        r"cars_test_annos\.mat will not.*Received: "
    )
    with pytest.raises(FileNotFoundError, match=message):
        load("cars196", data_dir)
    with pytest.raises(ValueError, match=message):
        load("cars196")
