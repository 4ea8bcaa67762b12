import collections
import doctest
import hashlib
import re

import numpy as np
import pytest

from keras_tcm.datasets import load, scenes
from keras_tcm.datasets.scene_classes import choose_scenes
from keras_tcm.study.grid import PRESETS

# Of every tenth instance of train and test.
SHA256 = "68fae8c0b813ef2ece43c3578f919db7ee2a943e35f6bb30b6b98571ac630323"

# What a reader knows of the words, written down apart from the data set.
MEANINGS = {
    "small": "small little tiny",
    "big": "big large huge",
    "red": "red scarlet",
    "orange": "orange tangerine",
    "yellow": "yellow golden",
    "green": "green emerald",
    "cyan": "cyan turquoise",
    "blue": "blue cobalt",
    "purple": "purple violet",
    "white": "white ivory",
    "circle": "circle disc",
    "square": "square box",
    "triangle": "triangle wedge",
    "star": "star",
    "ring": "ring hoop",
    "cross": "cross plus",
    "arrow": "arrow pointer",
    "heart": "heart",
    "crescent": "crescent moon",
    "diamond": "diamond rhombus",
    "letter t": "letter_t capital_t",
    "letter l": "letter_l capital_l",
}
MEANING = {
    word.replace("_", " "): meaning
    for meaning, words in MEANINGS.items()
    for word in words.split()
}
SIZES, COLOURS, SHAPES = (
    list(MEANINGS)[i] for i in (slice(2), slice(2, 10), slice(10, None))
)
# What lies between the two things: the relation of the first that is named to the
# second, or of the second to the first.
FORWARDS = {
    "left of": ("left of", "to the left of", "on the left side of"),
    "above": ("above", "over", "higher than"),
    "inside": ("inside", "within", "in the middle of"),
    "in front of": ("in front of", "partly covering"),
}
BACKWARDS = {
    "left of": ("right of", "to the right of", "on the right side of"),
    "above": ("below", "under", "lower than"),
    "inside": ("around", "surrounding"),
    "in front of": ("behind", "partly hidden by"),
}
# Of both things.
PLACES = {
    ("on the left", "on the right"): "left of",
    ("at the top", "at the bottom"): "above",
    ("at the front", "at the back"): "in front of",
}
OPENING = re.compile(
    r"^(there is|here is|a picture of|an image of|this shows|we see|you can see) (?=<)"
)


def _any_of(meanings, name):
    words = [word for word, meaning in MEANING.items() if meaning in meanings]
    return f"(?P<{name}>{'|'.join(words)})"


_SIZE, _COLOUR, _SHAPE = (
    _any_of(meanings, name)
    for meanings, name in ((SIZES, "size"), (COLOURS, "colour"), (SHAPES, "shape"))
)
THINGS = [
    re.compile(rf"\b(?:(?:an?|the|one) )?{order}\b")
    for order in (
        f"{_SIZE} {_COLOUR} {_SHAPE}",
        f"{_SIZE} {_SHAPE} in {_COLOUR}",
        f"{_COLOUR} {_SHAPE} that is {_SIZE}",
    )
]


def parse(caption):
    """The description of the scene that a caption is about."""
    things = []

    def take(match):
        things.append(" ".join(MEANING[match[k]] for k in ("size", "colour", "shape")))
        return f"<{len(things) - 1}>"

    for pattern in THINGS:
        caption = pattern.sub(take, caption)
    one, other = (things[int(i)] for i in re.findall(r"<(\d)>", caption))
    words = re.sub(r"<\d>", "*", OPENING.sub("", caption))
    for relation in FORWARDS:
        if words in {f"* {phrase} *" for phrase in FORWARDS[relation]}:
            return f"{one} {relation} {other}"
        if words in {f"* {phrase} *" for phrase in BACKWARDS[relation]}:
            return f"{other} {relation} {one}"
    if words == "* with * inside":
        return f"{other} inside {one}"
    for (first, second), relation in PLACES.items():
        if words == f"* {first} and * {second}":
            return f"{one} {relation} {other}"
        if words == f"* {second} and * {first}":
            return f"{other} {relation} {one}"
    raise ValueError(words)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where the data are by default if `KERAS_HOME` is the folder around it."""
    return tmp_path_factory.mktemp("scenes") / "keras_tcm"


@pytest.fixture(scope="module")
def data(data_dir):
    return load("scenes", data_dir)


@pytest.fixture(scope="module")
def names():
    return scenes.class_names()


@pytest.fixture(scope="module")
def labels_of(data):
    """The labels that occur with each caption."""
    found = collections.defaultdict(set)
    for (tokens, _), y in data:
        for caption, label in zip(scenes.captions(tokens), y.tolist(), strict=True):
            found[caption].add(label)
    return found


# The data


def test_shapes_types_and_sizes(data):
    for ((tokens, images), y), first, classes, (low, high) in zip(
        data,
        (0, 600),
        (600, 300),
        (scenes.TRAIN_COUNTS, scenes.TEST_COUNTS),
        strict=True,
    ):
        assert tokens.shape == (len(y), scenes.LENGTH)
        assert tokens.dtype == np.int32
        assert images.shape == (len(y), 32, 32, 3)
        assert images.dtype == np.uint8
        assert y.dtype == np.int64
        labels, counts = np.unique(y, return_counts=True)
        np.testing.assert_array_equal(labels, np.arange(first, first + classes))
        assert low <= counts.min() < 1.2 * low
        assert 0.9 * high < counts.max() <= high
        # The logarithm is spread evenly: each third of its range holds a third.
        position = np.log(counts / low) / np.log((high + 1) / low)
        thirds = np.histogram(position, bins=3, range=(0, 1))[0] / len(counts)
        np.testing.assert_allclose(thirds, 1 / 3, atol=0.08)
        # Words, then zeros.
        assert tokens.min() == 0
        assert tokens[:, 0].min() > 0
        assert tokens.max() <= len(scenes.VOCABULARY)
        assert not ((tokens[:, 1:] > 0) & (tokens[:, :-1] == 0)).any()


def test_classes_are_different_scenes(names):
    assert len(names) == len(set(names)) == 900
    for name in names:
        one, other = name.split(f" {relation_of(name)} ")
        # With the same thing twice, the other way round would be the same scene.
        assert one != other


def relation_of(name):
    (relation,) = (r for r in FORWARDS if f" {r} " in name)
    return relation


def test_training_has_every_attribute_and_every_word(data, names):
    ((tokens, _), _), ((test_tokens, _), _) = data
    for part in (names[:600], names[600:]):
        words = collections.Counter(re.findall("|".join(MEANINGS), " ".join(part)))
        assert set(words) == set(MEANINGS)
        assert min(words.values()) >= 20
        relations = collections.Counter(map(relation_of, part))
        assert min(relations[relation] for relation in FORWARDS) > len(part) / 6
    ids = set(range(len(scenes.VOCABULARY) + 1))
    assert set(np.unique(tokens)) == ids
    assert set(np.unique(test_tokens)) <= ids


def test_families_differ_in_a_single_respect(names):
    def parts(name):
        relation = relation_of(name)
        things = (thing.split(" ", 2) for thing in name.split(f" {relation} "))
        return [relation, *(attribute for thing in things for attribute in thing)]

    for start in range(0, 900, 3):
        founder, *variants = map(parts, names[start : start + 3])
        for variant in variants:
            changes = sum(a != b for a, b in zip(founder, variant, strict=True))
            swapped = [founder[0], *founder[4:], *founder[1:4]]
            assert changes == 1 or variant == swapped


# The captions


def test_every_caption_says_what_its_class_is(labels_of, names):
    for caption, labels in labels_of.items():
        # Of one class, and so no two classes share a caption.
        assert {names[label] for label in labels} == {parse(caption)}
    assert len(labels_of) > 8_000


def test_articles_fit_what_follows(labels_of):
    for caption in labels_of:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", caption), caption


def test_names_are_captions(names):
    tokens = scenes.tokenize(names)
    assert scenes.captions(tokens) == list(names)
    assert [parse(name) for name in names] == list(names)


def test_tokens_go_to_text_and_back(data):
    for (tokens, _), _ in data:
        np.testing.assert_array_equal(scenes.tokenize(scenes.captions(tokens)), tokens)


def test_the_id_of_a_word_is_its_place():
    assert isinstance(scenes.VOCABULARY, tuple)
    assert len(set(scenes.VOCABULARY)) == len(scenes.VOCABULARY)
    (row,) = scenes.tokenize(["Red ring, the star."])
    assert row.dtype == np.int32
    assert len(row) == scenes.LENGTH
    expected = [scenes.VOCABULARY.index(w) + 1 for w in ("red", "ring", "the", "star")]
    assert row.tolist() == expected + [0] * (scenes.LENGTH - 4)


def test_no_texts_are_no_rows():
    assert scenes.tokenize([]).shape == (0, scenes.LENGTH)
    assert scenes.captions(scenes.tokenize([])) == []


def test_unknown_word_is_named():
    with pytest.raises(
        ValueError, match=r"`texts`.*Received: 'pink', in 'a pink star'"
    ):
        scenes.tokenize(["a red star", "a pink star"])


@pytest.mark.parametrize("count", [0, 25])
def test_texts_have_some_words_and_not_too_many(count):
    scenes.tokenize([" ".join(["red"] * 24)])
    text = " ".join(["red"] * count)
    with pytest.raises(ValueError, match=rf"`texts`.*1 to 24 words.*with {count}$"):
        scenes.tokenize([text])


def test_one_text_is_not_a_sequence_of_texts():
    with pytest.raises(TypeError, match=r"`texts` .*Received: texts='a red star'"):
        scenes.tokenize("a red star")


@pytest.mark.parametrize(
    ("tokens", "received"),
    [
        (np.ones(24, "int32"), r"int32 of shape \(24,\)"),
        (np.ones((2, 24)), r"float64 of shape \(2, 24\)"),
        ([[1, -1]], "-1 to 1"),
        ([[1, len(scenes.VOCABULARY) + 1]], f"1 to {len(scenes.VOCABULARY) + 1}"),
    ],
)
def test_what_are_not_tokens_is_refused(tokens, received):
    with pytest.raises(ValueError, match=f"`tokens` must be .*Received: {received}$"):
        scenes.captions(tokens)


# The pictures

# Red, green and blue as in any chart of colours, 0 to 1.
CHART = {
    "red": (1, 0, 0),
    "orange": (1, 0.5, 0),
    "yellow": (1, 1, 0),
    "green": (0, 0.7, 0),
    "cyan": (0, 1, 1),
    "blue": (0, 0, 1),
    "purple": (0.6, 0, 0.8),
    "white": (1, 1, 1),
}


def pixels_of(images, colours):
    """Which pixels look like each colour rather than the background or another."""
    images = images / 255
    background = np.median(images, axis=(1, 2), keepdims=True)
    likenesses = [images - background, *(images - CHART[colour] for colour in colours)]
    nearest = np.argmin([(d * d).sum(-1) for d in likenesses], axis=0)
    return [nearest == place for place in range(1, len(likenesses))]


def test_pictures_show_the_relation_and_the_sizes(data, names):
    right, areas = {relation: [] for relation in FORWARDS}, {"small": [], "big": []}
    places = np.arange(32)
    for (_, images), y in data:
        for label in np.unique(y):
            relation = relation_of(names[label])
            things = [t.split(" ", 2) for t in names[label].split(f" {relation} ")]
            colours = [colour for _, colour, _ in things]
            if colours[0] == colours[1]:
                continue
            masks = pixels_of(images[y == label], colours)
            # From the middle of the second to that of the first, in pixels.
            first, second = (
                np.stack([(m.sum(axis) * places).sum(1) for axis in (2, 1)])
                / m.sum((1, 2)).clip(1)
                for m in masks
            )
            down, along = first - second
            right[relation].append(
                {
                    "left of": (along < -4) & (abs(down) < -along),
                    "above": (down < -4) & (abs(along) < -down),
                    "inside": (abs(along) < 3) & (abs(down) < 3),
                    "in front of": (abs(along) > 3) & (abs(down) > 3),
                }[relation]
            )
            for mask, (size, _, shape) in zip(masks, things, strict=True):
                if shape == "square" and relation in ("left of", "above"):
                    areas[size].append(np.median(mask.sum((1, 2))))
    for seen in right.values():
        seen = np.concatenate(seen)
        assert len(seen) > 3_000
        assert seen.mean() > 0.95
    # 7 x 7 and 11 x 11 pixels.
    assert np.quantile(areas["big"], 0.1) > 1.5 * np.quantile(areas["small"], 0.9)


def test_classes_differ_in_how_much_they_vary(data):
    spread, wordings = [], []
    for (tokens, images), y in data:
        for label in np.unique(y):
            mine = y == label
            spread.append(images[mine].astype(float).std(0).mean())
            wordings.append(len(np.unique(tokens[mine], axis=0)) / mine.sum())
    assert np.quantile(spread, 0.95) > 2.5 * np.quantile(spread, 0.05)
    assert np.quantile(wordings, 0.05) < 0.15
    assert np.quantile(wordings, 0.95) == 1
    # The same classes vary in both.
    assert np.corrcoef(spread, wordings)[0, 1] > 0.6


# The same everywhere


def test_data_are_the_pinned_ones(data):
    digest = hashlib.sha256()
    for (tokens, images), y in data:
        digest.update(tokens[::10].astype("<i4").tobytes())
        digest.update(images[::10].tobytes())
        digest.update(y[::10].astype("<i8").tobytes())
    assert digest.hexdigest() == SHA256


def test_classes_do_not_depend_on_each_other(data):
    _, ((tokens, images), y) = data
    _, test_scenes = choose_scenes()
    texts, alone = scenes.sample(test_scenes[7], scenes.TEST_COUNTS)
    np.testing.assert_array_equal(alone, images[y == 607])
    np.testing.assert_array_equal(scenes.tokenize(texts), tokens[y == 607])


# The cache, with a stand-in for the drawing


@pytest.fixture
def drawings(monkeypatch):
    """Counts how often the data are drawn."""
    calls = []

    def generate():
        calls.append(1)
        arrays = {}
        for split, first in (("train", 0), ("test", 2)):
            arrays[f"tokens_{split}"] = scenes.tokenize(["red star", "blue ring"])
            arrays[f"images_{split}"] = np.full((2, 32, 32, 3), first, "uint8")
            arrays[f"y_{split}"] = np.arange(first, first + 2, dtype="int64")
        return arrays

    monkeypatch.setattr(scenes, "_generate", generate)
    return calls


def test_second_load_reads_the_file(tmp_path, drawings):
    for _ in range(2):
        ((tokens, images), y), ((_, test_images), y_test) = load("scenes", tmp_path)
        assert scenes.captions(tokens) == ["red star", "blue ring"]
        assert images.max() == 0
        assert test_images.min() == 2
        assert [*y, *y_test] == [0, 1, 2, 3]
    assert len(drawings) == 1
    assert [path.name for path in tmp_path.iterdir()] == [scenes.FILE_NAME]


@pytest.mark.parametrize("damage", ["truncated", "of another version"])
def test_damaged_file_is_drawn_again(tmp_path, drawings, damage):
    load("scenes", tmp_path)
    (file,) = tmp_path.iterdir()
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:1_000])
    else:
        np.savez(file, x_train=np.zeros(2))

    with pytest.warns(UserWarning, match=r"scenes.*could not be read"):
        (_, y), _ = load("scenes", tmp_path)
    assert len(drawings) == 2
    np.testing.assert_array_equal(y, [0, 1])
    load("scenes", tmp_path)
    assert len(drawings) == 2


# The rest of the package


def test_studies_are_about_images_alone():
    assert not [name for name in PRESETS if "scenes" in PRESETS[name].steps]


@pytest.mark.usefixtures("data")
def test_examples(data_dir, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(data_dir.parent))
    results = doctest.testmod(scenes)
    assert results.attempted >= 8
    assert results.failed == 0
