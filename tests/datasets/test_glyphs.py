import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("fontTools")
path = pytest.importorskip("matplotlib.path")

from keras_tcm.datasets import character_images, glyphs, load  # noqa: E402
from keras_tcm.datasets.character_set import CharacterSet  # noqa: E402
from keras_tcm.datasets.glyph_outlines import FACES, fill, load_faces  # noqa: E402

# Of `sample` for these characters, as the subprocess below computes it.
SAMPLED = "Ag\u00df\u03a9\u0416\u0573\u10d6"
SAMPLED_SHA256 = "ed50edbd936fa3f9579e66d973a22d4f614947a50f44c3cf19fbece632cf1d81"
# Of every tenth image of train and test.
SUBSET_SHA256 = "3ea6dc11653121bed2cf343b77e8c799895fdfb5b2e5f2ab5da40f3b06eaf38a"


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glyphs")
    load("glyphs", folder)
    return folder


@pytest.fixture(scope="session")
def data(data_dir):
    return load("glyphs", data_dir)


@pytest.fixture(scope="module")
def faces():
    return load_faces()


def edges_of(*polygons):
    rings = [np.array(polygon, "float64") for polygon in polygons]
    return np.concatenate([np.hstack([r, np.roll(r, -1, axis=0)]) for r in rings])


# The fill


def test_fill_counts_the_sample_points_of_a_half_covered_pixel():
    covered = fill(edges_of([(1, 1), (2.5, 1), (2.5, 3), (1, 3)]), 4)

    expected = np.zeros((4, 4))
    expected[1:3, 1] = 16
    expected[1:3, 2] = 8
    np.testing.assert_array_equal(covered, expected)


def test_fill_follows_the_non_zero_winding_rule():
    outer = [(0, 0), (6, 0), (6, 6), (0, 6)]
    inner = [(2, 2), (4, 2), (4, 4), (2, 4)]

    # The same way round the inside stays filled, the other way it is a hole.
    assert fill(edges_of(outer, inner), 6).min() == 16
    hole = fill(edges_of(outer, inner[::-1]), 6)
    assert hole[2:4, 2:4].max() == 0
    assert hole.sum() == 16 * (36 - 4)


def test_fill_cuts_off_what_lies_outside():
    outside = fill(edges_of([(-5, -5), (2, -5), (2, 9), (-5, 9)]), 4)

    np.testing.assert_array_equal(outside, [[16, 16, 0, 0]] * 4)


@pytest.mark.parametrize("character", ["A", "g", "8", "\u00c5", "\u0416", "\u03a6"])
@pytest.mark.parametrize("name", ["DejaVuSans", "DejaVuSerif-Italic", "STIXGeneral"])
def test_fill_agrees_with_matplotlib(faces, name, character):
    size = 24
    face = faces[FACES.index(name)]
    edges = face.edges(character)
    low = np.minimum(edges[:, :2].min(0), edges[:, 2:].min(0))
    high = np.maximum(edges[:, :2].max(0), edges[:, 2:].max(0))
    edges = (edges - np.tile(low, 2)) * (size / (high - low).max())

    # Matplotlib says of each contour whether a point is inside, and its shoelace
    # area says which way round the contour goes: together, the winding number.
    centres = (np.arange(size * 4) + 0.5) / 4
    points = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
    winding = np.zeros(len(points), int)
    starts = np.flatnonzero((edges[1:, :2] != edges[:-1, 2:]).any(1)) + 1
    for ring in np.split(edges, starts):
        x, y = ring[:, 0], ring[:, 1]
        area = np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))
        inside = path.Path(ring[:, :2]).contains_points(points)
        winding += np.where(inside, int(np.sign(area)), 0)
    expected = (winding != 0).reshape(size, 4, size, 4).sum((1, 3))

    # Sample points that lie on an outline may fall on either side of it.
    difference = np.abs(fill(edges, size).astype(int) - expected)
    assert difference.sum() <= 0.002 * expected.sum()
    assert expected.sum() > 0.1 * 16 * size * size


def test_curves_pass_where_matplotlib_draws_them(faces):
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    for name, character in (("DejaVuSans", "S"), ("STIXGeneralBol", "\u00e9")):
        font = FontProperties(fname=f"{get_data_path()}/fonts/ttf/{name}.ttf")
        drawn = TextPath((0, 0), character, size=1000, prop=font)
        area = 0.0
        for ring in drawn.to_polygons(closed_only=True):
            x, y = ring[:, 0], ring[:, 1]
            area += np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2
        x0, y0, x1, y1 = faces[FACES.index(name)].edges(character).T
        units_per_em = 1000 if name.startswith("STIX") else 2048
        ours = np.sum(x0 * y1 - y0 * x1) / 2 * (1000 / units_per_em) ** 2
        assert abs(ours) == pytest.approx(abs(area), rel=0.01)


# The data


def test_shapes_types_and_sizes(data):
    (x_train, y_train), (x_test, y_test) = data

    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.shape == (len(y), 28, 28, 1)
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        assert y.shape == (len(x),)
    assert 33_000 <= len(x_train) <= 40_000
    assert 10_000 <= len(x_test) <= 15_000


def test_classes_are_many_disjoint_and_numbered_through(data, data_dir):
    (_, y_train), (_, y_test) = data
    names = glyphs.class_names(data_dir)
    train_classes, test_classes = np.unique(y_train), np.unique(y_test)

    assert len(train_classes) >= 350
    assert len(test_classes) >= 300
    everything = np.concatenate([train_classes, test_classes])
    np.testing.assert_array_equal(everything, np.arange(len(names)))
    assert len(set(names)) == len(names)
    is_train_block = [
        any(low <= ord(name) <= high for low, high in glyphs.TRAIN_BLOCKS)
        for name in names
    ]
    assert sum(is_train_block) == len(train_classes)
    assert all(is_train_block[: len(train_classes)])


def test_class_sizes_are_log_uniform(data):
    for (_, y), (low, high) in zip(
        data, (glyphs.TRAIN_COUNTS, glyphs.TEST_COUNTS), strict=True
    ):
        counts = np.unique(y, return_counts=True)[1]
        assert counts.min() >= low >= 16
        assert counts.max() <= high
        # The logarithm is spread evenly: each third of its range holds a third.
        position = np.log(counts / low) / np.log(high / low)
        thirds = np.histogram(position, bins=3, range=(0, 1))[0] / len(counts)
        np.testing.assert_allclose(thirds, 1 / 3, atol=0.08)


def test_classes_differ_in_how_much_they_vary(data, data_dir):
    names = glyphs.class_names(data_dir)
    for x, y in data:
        classes = np.unique(y)
        spread = np.array([x[y == c].astype(float).std(0).mean() for c in classes])
        level = np.array([character_images.variability(names[c]) for c in classes])
        assert level.min() < 0.05
        assert level.max() > 0.95
        assert np.quantile(spread, 0.95) > 1.5 * np.quantile(spread, 0.05)
        assert np.corrcoef(spread, level)[0, 1] > 0.6


@pytest.mark.parametrize(
    "twins",
    [
        "o\u03bf\u043eO\u039f\u041e",  # o of Latin, Greek, Cyrillic; both cases
        "A\u0391\u0410",
        "cC\u0441\u0421\u1d9c",
        "sS\u0455\u0405",
        "vV",
        "wW",
        "xX\u0445\u0425",
        "zZ\u0396",
        "a\u1d43\u0430",  # a, its modifier letter, Cyrillic a
    ],
)
def test_characters_that_look_the_same_are_one_class(twins, data_dir):
    assert len(set(twins) & set(glyphs.class_names(data_dir))) == 1


def test_no_two_bars_are_classes(data_dir):
    bars = set("Il|\u0131\u01c0\u0399\u0406\u04c0\u04cf")
    assert len(bars & set(glyphs.class_names(data_dir))) <= 1


def test_letters_that_look_different_are_all_classes(data_dir):
    assert set("ABDEGHKMNPQRTabdefghkmnpqrt\u0394\u0416\u042e") <= set(
        glyphs.class_names(data_dir)
    )


# The same everywhere


def test_data_are_the_pinned_ones(data):
    digest = hashlib.sha256()
    for x, y in data:
        digest.update(x[::10].tobytes())
        digest.update(y[::10].astype("<i8").tobytes())
    assert digest.hexdigest() == SUBSET_SHA256


def test_another_process_draws_the_same(faces):
    here = hashlib.sha256()
    for character in SAMPLED:
        here.update(character_images.sample(faces, character, (30, 200)).tobytes())
    assert here.hexdigest() == SAMPLED_SHA256

    script = """
import hashlib, sys
import numpy as np
from keras_tcm.datasets import character_images
from keras_tcm.datasets.glyph_outlines import load_faces

np.random.seed(7)
digest = hashlib.sha256()
faces = load_faces()
for character in sys.argv[1]:
    digest.update(character_images.sample(faces, character, (30, 200)).tobytes())
print(digest.hexdigest())
"""
    # Neither threads, hashing nor the global random state may matter.
    environment = dict(os.environ, PYTHONHASHSEED="7", OPENBLAS_NUM_THREADS="1")
    output = subprocess.run(
        [sys.executable, "-c", script, SAMPLED],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.split()[-1] == SAMPLED_SHA256


def test_classes_do_not_depend_on_each_other(data, data_dir, faces):
    (x_train, y_train), _ = data
    label = glyphs.class_names(data_dir).index("g")

    alone = character_images.sample(faces, "g", glyphs.TRAIN_COUNTS)
    np.testing.assert_array_equal(alone, x_train[y_train == label])


@pytest.mark.slow
def test_a_second_generation_is_the_same_file(data_dir, tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from keras_tcm.datasets import load;"
            "load('glyphs', sys.argv[1])",
            str(tmp_path),
        ],
        env=dict(os.environ, OPENBLAS_NUM_THREADS="1"),
        check=True,
    )
    name = "glyphs-v1.npz"
    with np.load(tmp_path / name) as one, np.load(data_dir / name) as other:
        assert set(one) == set(other)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


# The cache, with a stand-in for the drawing


@pytest.fixture
def drawings(monkeypatch):
    """Counts how often the data are drawn."""
    calls = []

    def generate():
        calls.append(1)
        images = np.arange(2 * 28 * 28, dtype="uint8").reshape(2, 28, 28, 1)
        labels = np.array([0, 1], "int64")
        return {
            "x_train": images,
            "y_train": labels,
            "x_test": images[::-1],
            "y_test": labels + 2,
            "characters": np.array([97, 98, 945, 946], "uint32"),
        }

    monkeypatch.setattr(CharacterSet, "generate", lambda self: generate())
    return calls


def test_second_load_reads_the_file(tmp_path, drawings):
    (first, _), _ = load("glyphs", tmp_path / "new")
    (second, _), (_, labels) = load("glyphs", tmp_path / "new")

    assert len(drawings) == 1
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(labels, [2, 3])
    assert glyphs.class_names(tmp_path / "new") == ("a", "b", "\u03b1", "\u03b2")
    assert len(drawings) == 1
    # Nothing but the file: the temporary one is gone.
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("empty", "EOFError"),
        ("text", "ValueError"),
        ("truncated", "BadZipFile"),
        ("flipped", "BadZipFile: Bad CRC-32"),
        ("pickle", "ValueError: Object arrays"),
        ("other arrays", "KeyError: 'y_train"),
        ("single array", "TypeError"),
    ],
)
def test_damaged_file_is_drawn_again(tmp_path, drawings, damage, reason):
    (expected, _), _ = load("glyphs", tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "empty":
        content = b""
    elif damage == "text":
        content = b"not an archive"
    elif damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[400] ^= 1
    if damage == "pickle":
        np.savez(file, x_train=np.array([{}], dtype=object))
    elif damage == "other arrays":
        np.savez(file, x_train=expected)
    elif damage == "single array":
        with file.open("wb") as stream:
            np.save(stream, expected)
    else:
        file.write_bytes(content)

    with pytest.warns(UserWarning, match="could not be read") as caught:
        (restored, _), _ = load("glyphs", tmp_path)
    assert len(drawings) == 2
    # What happened, to which file.
    (text,) = (str(warning.message) for warning in caught)
    assert text.startswith(f"{file} could not be read (")
    assert reason in text
    np.testing.assert_array_equal(restored, expected)
    load("glyphs", tmp_path)
    assert len(drawings) == 2


def test_an_error_of_the_drawing_is_not_hidden(tmp_path, monkeypatch):
    def generate(self):
        raise ZeroDivisionError

    monkeypatch.setattr(CharacterSet, "generate", generate)
    with pytest.raises(ZeroDivisionError) as error:
        load("glyphs", tmp_path)
    # Nor does it look as if it came of reading the file.
    assert error.value.__context__ is None


def test_default_folder_is_in_the_keras_home(tmp_path, drawings, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    load("glyphs")

    assert len(list((tmp_path / "keras_tcm").glob("glyphs-*.npz"))) == 1


def test_data_come_back_where_nothing_can_be_written(tmp_path, drawings):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be written"):
        (x, _), _ = load("glyphs", tmp_path / "file")

    assert x.shape == (2, 28, 28, 1)


# Imports


def test_import_loads_no_optional_package():
    script = """
import sys
import keras_tcm
before = set(sys.modules)
import keras_tcm.datasets
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new & {"matplotlib", "fontTools", "PIL", "sklearn", "jax", "torch",
                    "tensorflow", "keras"}))
"""
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert output.split() == ["[]"]


def test_missing_package_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "keras-tcm\[viz\]"'):
        load("glyphs", tmp_path)
