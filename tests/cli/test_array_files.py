"""Files of embeddings and labels: what is read, and what is said about the others."""

import io
import os
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest

from keras_tcm.cli.array_files import read_samples
from keras_tcm.cli.messages import UsageError, legible, title_of

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 3)), np.arange(6) % 2
GALLERY_X, GALLERY_Y = RNG.normal(size=(8, 3)), np.arange(8) % 2
EVERYTHING = {
    "embeddings": X,
    "labels": Y,
    "gallery_embeddings": GALLERY_X,
    "gallery_labels": GALLERY_Y,
}


def write(path, *single, **arrays):
    with path.open("wb") as file:
        if single:
            np.save(file, single[0])
        else:
            np.savez(file, **arrays)
    return path


def read(file, labels=None, gallery=None, gallery_labels=None):
    return read_samples(file, labels, gallery, gallery_labels)


def message(*files, **others):
    """What is said about files, which is on one line and does no harm."""
    with pytest.raises(UsageError) as caught:
        read(*files, **others)
    text = str(caught.value)
    assert text.isprintable()
    for advice in "allow_pickle", "trust", "max_header_size":
        assert advice not in text
    return text


def check(arrays, **expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


# ------------------------------------------------------------------------ what is read


def test_archives(tmp_path):
    check(read(write(tmp_path / "a.npz", **EVERYTHING)), **EVERYTHING)
    file = write(tmp_path / "b.npz", embeddings=X, labels=Y, other=np.zeros(3))
    check(read(file), embeddings=X, labels=Y)


def test_single_arrays(tmp_path):
    x, y = write(tmp_path / "x.npy", X), write(tmp_path / "y.npy", Y.astype(str))
    gallery = write(tmp_path / "g.npy", GALLERY_X), write(tmp_path / "h.npy", GALLERY_Y)
    check(read(x, y), embeddings=X, labels=Y.astype(str))
    check(read(x, y, *gallery), **{**EVERYTHING, "labels": Y.astype(str)})


def test_archives_and_single_arrays_mix(tmp_path):
    own = write(tmp_path / "own.npz", embeddings=X, labels=Y)
    bare = write(tmp_path / "bare.npz", embeddings=X)
    gallery = write(tmp_path / "gallery.npz", embeddings=GALLERY_X, labels=GALLERY_Y)
    single = write(tmp_path / "gallery.npy", GALLERY_X)
    check(read(own, gallery=gallery), **EVERYTHING)
    check(
        read(own, gallery=single, gallery_labels=gallery),
        **{**EVERYTHING, "gallery_labels": GALLERY_Y},
    )
    check(read(bare, own), embeddings=X, labels=Y)


def test_two_towers(tmp_path):
    stacked = RNG.normal(size=(6, 2, 3))
    file = write(tmp_path / "a.npz", embeddings=stacked, labels=Y)
    check(read(file), embeddings=stacked, labels=Y)
    gallery = write(tmp_path / "g.npz", embeddings=GALLERY_X, labels=GALLERY_Y)
    text = message(file, gallery=gallery)
    assert f"`embeddings` in {file} have shape (6, 2, 3)" in text
    assert text.endswith(f"Received: `gallery_embeddings` in {gallery}")
    both = write(
        tmp_path / "b.npz", embeddings=stacked, labels=Y, gallery_labels=GALLERY_Y
    )
    assert message(both).endswith(f"Received: `gallery_labels` in {both}")


def test_names_of_files_do_not_matter(tmp_path):
    check(
        read(write(tmp_path / "a.npy", embeddings=X, labels=Y)), embeddings=X, labels=Y
    )
    x, y = write(tmp_path / "x.npz", X), write(tmp_path / "y.txt", Y)
    check(read(x, y), embeddings=X, labels=Y)


@pytest.mark.skipif(os.name != "posix", reason="the system allows fewer names")
@pytest.mark.parametrize(
    "name",
    [
        " a b ",
        "a\nb.npz",
        "-a.npz",
        "--out",
        "a:b.npz",
        "100%s%(prog)s.npz",
        "<b>&amp;.npz",
        "\x1b[31mred.npz",
        os.fsdecode(b"\xff\xfe.npz"),
        "é文字😀.npz",
        "x" * 255,
        ".npz",
        "'\"`$HOME\\",
    ],
)
def test_any_name(tmp_path, name):
    path = write(tmp_path / name, embeddings=X, labels=Y)
    check(read(path), embeddings=X, labels=Y)
    assert legible(path).isprintable()
    title = title_of(path)
    assert title.isprintable()
    assert 0 < len(title) <= 48
    missing = path.with_name(f"{name[:200]}?")
    assert "No such file" in message(missing)
    path.write_text("no array")
    assert legible(path) in message(path)


def test_legible():
    assert legible("Zoë, 文字 – 1%") == "Zoë, 文字 – 1%"
    assert legible("a\n\t\x1b\udcff\u2028b") == r"a\n\t\x1b\udcff\u2028b"


# --------------------------------------------------------------------- what is refused


def archive(**members):
    """A zip archive of any members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content in members.items():
            written.writestr(name.replace("__", "."), content)
    return file.getvalue()


def bytes_of(*single, **arrays):
    file = io.BytesIO()
    np.save(file, single[0]) if single else np.savez(file, **arrays)
    return file.getvalue()


def npy_header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


OBJECTS = np.array([*"abcdef"], dtype=object)
RECORDS = np.zeros(6, dtype=[("name", object)])


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"1.0,2.0,0\n", "neither an .npz archive nor an .npy file"),
        ("Zoë\n".encode("utf-16"), "neither"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "neither"),
        (b"PK", "neither"),
        (b"\x1f\x8b\x08" + bytes(20), "neither"),
        (pickle.dumps(X), "neither"),
        (b"\x93NUM", "neither"),
        (b"\x93NUMPY", "damaged or cut short"),
        (b"\x93NUMPY\x09\x00", "damaged or cut short"),
        (bytes_of(X)[:100], "damaged or cut short"),
        (bytes_of(X)[:-1], "damaged or cut short"),
        (bytes_of(embeddings=X, labels=Y)[:-30], "damaged or cut short"),
        (npy_header("{'descr': 'f8'" + 20000 * " "), "damaged or cut short"),
        (
            npy_header("{'descr':'<f8','fortran_order':False,'shape':(9**18,9)}"),
            "damaged or cut short",
        ),
        (bytes_of(OBJECTS), "Python objects"),
        (bytes_of(RECORDS), "Python objects"),
        (bytes_of(embeddings=X, labels=OBJECTS), "`labels` is an array of Python obj"),
        (bytes_of(embeddings=OBJECTS, labels=Y), "`embeddings` is an array of Python"),
        (archive(embeddings=b"text"), "`embeddings` is not an array"),
        (archive(embeddings__npy=b""), "`embeddings` is not an array"),
        (archive(embeddings__npy=pickle.dumps(X)), "`embeddings` is not an array"),
        (archive(word__document__xml=b"<a/>"), "Received: word.document.xml"),
        (archive(), "Received: no arrays"),
        (bytes_of(vectors=X, classes=Y), "Received: vectors, classes"),
        (bytes_of(**{f"a{i}": Y for i in range(20)}), "a8, a9, ..."),
    ],
)
def test_file_of_something_else(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    text = message(path)
    assert str(path) in text
    assert said in text


def test_what_is_no_file(tmp_path):
    assert "No such file" in message(tmp_path / "none.npz")
    assert "it is a folder" in message(tmp_path)
    with pytest.raises(UsageError, match="too long"):
        read(tmp_path / ("x" * 300))
    loop = tmp_path / "loop.npz"
    loop.symlink_to(loop)
    assert "loop.npz" in message(loop)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_a_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    assert "not a regular file" in message(pipe)
    assert "not a regular file" in message(pathlib.Path("/dev/null"))


def test_what_is_missing(tmp_path):
    bare = write(tmp_path / "bare.npz", embeddings=X)
    own = write(tmp_path / "own.npz", embeddings=X, labels=Y)
    single = write(tmp_path / "single.npy", X)
    for file in bare, single:
        text = message(file)
        assert "`labels`" in text
        assert "--labels" in text
        text = message(own, gallery=file)
        assert "`gallery_labels`" in text
        assert "--gallery-labels" in text
        assert file.name in text
    labels = write(tmp_path / "labels.npz", labels=Y)
    assert "`embeddings`" in message(labels)
    assert "`labels`" in message(single, bare)
    assert "`embeddings`" in message(own, gallery=labels)


def test_what_is_there_twice(tmp_path):
    full = write(tmp_path / "full.npz", **EVERYTHING)
    own = write(tmp_path / "own.npz", embeddings=X, labels=Y)
    for text in (
        message(full, own),
        message(full, gallery=own),
        message(own, gallery=own, gallery_labels=full),
    ):
        assert "given twice" in text
        assert "full.npz" in text
        assert "own.npz" in text
