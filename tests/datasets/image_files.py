"""What the tests of the data sets of image files share."""

import dataclasses
import functools
import io
import os

import numpy as np
from PIL import Image


@functools.cache
def jpeg():
    """The bytes of a small photograph."""
    content = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 100, 50)).save(content, "JPEG")
    return content.getvalue()


def write_images(folder, paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(jpeg())


def write_lines(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines))


def replace_line(file, number, text):
    """Puts another line in place of line `number`, or, with `None`, takes it out."""
    lines = file.read_text().splitlines()
    lines[number - 1 : number] = [] if text is None else [text]
    write_lines(file, lines)


def publish(monkeypatch, module, train_counts, test_counts):
    """Has a module believe that these are the published counts."""
    smaller = dataclasses.replace(
        module._SET, train_counts=train_counts, test_counts=test_counts
    )
    monkeypatch.setattr(module, "_SET", smaller)


def assert_split(split, folder, paths, labels):
    """Checks paths, relative to `folder`, labels and types."""
    x, y = split
    assert isinstance(x, np.ndarray)
    assert x.dtype.kind == "U"
    assert y.dtype == np.int64
    assert [os.path.relpath(path, folder) for path in x] == list(paths)
    assert all(map(os.path.isfile, x))
    assert y.tolist() == list(labels)


def assert_same_classes(labels, others):
    """Checks that labels are the same up to their values."""
    pairs = set(zip(labels, others, strict=True))
    assert len(pairs) == len(set(labels)) == len(set(others))
