"""Embeddings and labels in files of NumPy's formats."""

import argparse
import functools
import pathlib
import stat
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_tcm.cli.messages import UsageError, legible
from keras_tcm.evaluation import from_cosine

_NPY = b"\x93NUMPY"
# The second begins an archive without members.
_NPZ = (b"PK\x03\x04", b"PK\x05\x06")
# Of so many arrays in an archive, a message gives the names.
_MAX_NAMES = 10


def read_models(args: argparse.Namespace) -> list[dict[str, np.ndarray]]:
    """Read what the files of the command line hold of each model.

    Warns of embeddings without a direction.

    Args:
        args: The files, and the distance.

    Returns:
        The arrays of each model: see `read_samples`.

    Raises:
        UsageError: As `read_samples` does.
    """
    galleries = args.gallery or [None] * len(args.files)
    models = [
        read_samples(file, args.labels, gallery, args.gallery_labels)
        for file, gallery in zip(args.files, galleries, strict=True)
    ]
    for file, arrays in zip(args.files, models, strict=True):
        _warn_of_zeros(file, arrays, args.distance)
    return models


def read_samples(
    file: pathlib.Path,
    labels: pathlib.Path | None,
    gallery: pathlib.Path | None,
    gallery_labels: pathlib.Path | None,
) -> dict[str, np.ndarray]:
    """Read embeddings and labels, and those of a gallery if there is one.

    Each file is an `.npz` archive, or an `.npy` file of the array that is named first.

    Args:
        file: `embeddings`, and in an archive perhaps what the others hold, as `labels`,
            `gallery_embeddings` and `gallery_labels`.
        labels: `labels`.
        gallery: `embeddings` of the gallery, and in an archive perhaps its `labels`.
        gallery_labels: `labels` of the gallery.

    Returns:
        The arrays, under their names in `file`. Embeddings of two towers, shape
        `(n, 2, d)`, have no gallery beside them.

    Raises:
        UsageError: If a file cannot be read, does not hold what it should, or something
            is missing or there twice.
    """
    own = ("embeddings", "labels", "gallery_embeddings", "gallery_labels")
    sources = (
        (file, own, own),
        (labels, ("labels",), ("labels",)),
        (gallery, ("embeddings", "labels"), own[2:]),
        (gallery_labels, ("labels",), own[3:]),
    )
    arrays: dict[str, np.ndarray] = {}
    origins: dict[str, pathlib.Path] = {}
    for path, names, targets in sources:
        if path is None:
            continue
        found = _read(path, names)
        for name, target in zip(names, targets, strict=True):
            if name not in found:
                continue
            if target in arrays:
                raise UsageError(
                    f"`{target}` are given twice, by {legible(origins[target])} and "
                    f"{legible(path)}"
                )
            arrays[target], origins[target] = found[name], path
    for name, option in ("labels", "--labels"), ("gallery_labels", "--gallery-labels"):
        origin = origins.get(name.replace("labels", "embeddings"))
        if origin is not None and name not in arrays:
            raise UsageError(
                f"`{name}` are missing: {legible(origin)} does not hold them, and "
                f"there is no {option}"
            )
    _check_towers(file, arrays, origins)
    return arrays


def _check_towers(
    file: pathlib.Path,
    arrays: dict[str, np.ndarray],
    origins: dict[str, pathlib.Path],
) -> None:
    """Raise `UsageError` if there is a gallery beside embeddings of two towers.

    Args:
        file: Where the embeddings come from.
        arrays: All that has been read.
        origins: Where each array comes from.
    """
    shape = arrays["embeddings"].shape
    for name in "gallery_embeddings", "gallery_labels":
        if len(shape) == 3 and name in arrays:
            raise UsageError(
                f"`embeddings` in {legible(file)} have shape {shape}: queries and "
                "gallery items of two towers, beside which there is no other gallery. "
                f"Received: `{name}` in {legible(origins[name])}"
            )


def _read(path: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read those arrays of a file that have a name; the first one must be there."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            # Opening a pipe would wait for somebody to write to it.
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise UsageError(f"cannot read {legible(path)}: it is {kind}")
        with path.open("rb") as file:
            start = file.read(len(_NPY))
    except OSError as error:
        raise UsageError(f"cannot read {legible(path)}: {error}") from None
    if start == _NPY:
        return {names[0]: _load(path, names[0], lambda: np.load(path))}
    if not start.startswith(_NPZ):
        # NumPy would take it for a pickle, and tell how to run it.
        what = "neither an .npz archive nor an .npy file" if start else "empty"
        raise UsageError(f"cannot read {legible(path)}: it is {what}")
    with _load(path, "archive", lambda: np.load(path)) as archive:
        found = archive.files
        if names[0] not in found:
            listed = [legible(name) for name in found[:_MAX_NAMES]] or ["no arrays"]
            more = ", ..." if len(found) > _MAX_NAMES else ""
            raise UsageError(
                f"{legible(path)} must hold an array `{names[0]}`. "
                f"Received: {', '.join(listed)}{more}"
            )
        return {
            name: _load(path, name, functools.partial(archive.__getitem__, name))
            for name in names
            if name in found
        }


def _load(path: pathlib.Path, name: str, load: Callable[[], Any]) -> Any:
    """Return what NumPy loads, or say what is wrong with it."""
    try:
        loaded = load()
    except Exception as error:  # A damaged file fails in many ways.
        if "Object arrays" in str(error):
            raise UsageError(
                f"{legible(path)}: `{name}` is an array of Python objects, whose "
                "loading would run code from the file. Save numbers or text: "
                f"{name}.astype({'str' if 'labels' in name else 'np.float32'}), for "
                "example"
            ) from None
        # NumPy's advice to allow pickles is not passed on.
        reason = "" if "allow_pickle" in str(error) else f": {error}"
        raise UsageError(
            f"cannot read {legible(path)}, which is damaged or cut short{reason}"
        ) from None
    if isinstance(loaded, bytes):
        raise UsageError(f"{legible(path)}: `{name}` is not an array")
    return loaded


def _warn_of_zeros(
    path: pathlib.Path, arrays: dict[str, np.ndarray], distance: str
) -> None:
    """Warn of embeddings without a direction.

    Args:
        path: Where the samples come from.
        arrays: Their embeddings, and those of the gallery, beside other arrays.
        distance: The measure of distance.
    """
    for name in "embeddings", "gallery_embeddings":
        x = arrays.get(name)
        if x is None or x.ndim not in (2, 3) or x.dtype.kind not in "fiu":
            continue
        is_zero = ~x.any(axis=-1)
        count = int(np.count_nonzero(is_zero))
        if count:
            warnings.warn(
                f"{legible(path)}: {count:,} of {is_zero.size:,} rows of `{name}` are "
                "all zero: they are at distance "
                f"{from_cosine(1.0, distance):.4g} from everything",
                stacklevel=2,
            )
