"""The folder in which a matcher is kept."""

import contextlib
import dataclasses
import hashlib
import json
import math
import pathlib
import re
import threading
import time
import uuid
from collections.abc import Hashable
from typing import Any

import numpy as np

from keras_tcm import artefacts
from keras_tcm.evaluation import ScoreNormalization, compared_dimension
from keras_tcm.files import replacing
from keras_tcm.threshold.threshold import Threshold

_HEADER = {"format": "keras_tcm.Matcher", "version": 2}
_FIELDS = ("threshold", "ids", "vectors", "score_normalization")
# Says which of the files of vectors count.
_INDEX = "matcher.json"
# What is written has a name of its own, so that nobody ever writes what others read.
_VECTORS = re.compile(r"vectors-([0-9a-f]{16})-[0-9a-f]{16}\.npy")
_PARTIAL = re.compile(
    rf"(?:{_VECTORS.pattern}|{re.escape(_INDEX)})\.[0-9a-f]{{32}}\.part"
)
# What a save that was killed has left is as old as that when it is cleared away.
_SECONDS_OF_A_SAVE = 3600.0
# Parsers of Python 3.11 in several threads may take each other for a broken one
# (SystemError: AST constructor recursion depth mismatch).
_PARSING = threading.Lock()
# Times that a folder is read where it is saved anew meanwhile.
_TRIALS = 10


@dataclasses.dataclass(frozen=True, eq=False)
class SavedGallery:
    """What a folder holds.

    Attributes:
        threshold: The threshold.
        ids: The ids.
        vectors: The unit vector of each, float32, as they are compared.
        score_normalization: What has made them, or `None`; its cohort is one more file
            of vectors.
    """

    threshold: Threshold
    ids: list[Hashable]
    vectors: np.ndarray
    score_normalization: ScoreNormalization | None = None

    def save(self, folder: pathlib.Path) -> None:
        """Write it: whole, or not at all."""
        ids = [_to_json(one) for one in self.ids]
        folder.mkdir(exist_ok=True)
        values = {
            "threshold": self.threshold.to_dict(),
            "ids": ids,
            "vectors": _write_vectors(folder, self.vectors),
            "score_normalization": None,
        }
        known = self.score_normalization
        if known is not None:
            values["score_normalization"] = {
                "cohort": _write_vectors(folder, known.cohort),
                "shape": list(known.cohort.shape),
                "top": known.top,
                "method": known.method,
            }
        replaced = _named_vectors(folder)
        # From here on it is the new one.
        artefacts.save(folder / _INDEX, {**_HEADER, **values})
        _clear(folder, _names(values), replaced)

    @classmethod
    def load(cls, folder: pathlib.Path) -> "SavedGallery":
        """Read a folder.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If the folder holds something else.
        """

        def read(values: Any) -> "SavedGallery":
            known = artefacts.check_fields(
                values, "Matcher", _HEADER, _FIELDS, "save the gallery anew"
            )
            threshold = Threshold.from_dict(known["threshold"])
            ids = _read_ids(known["ids"])
            normalization = _read_normalization(folder, known["score_normalization"])
            threshold.check_normalization(normalization)
            length = compared_dimension(threshold.dimension, threshold.distance)
            vectors = _read_vectors(folder, known["vectors"], (len(ids), length))
            return cls(threshold, ids, vectors, normalization)

        for _ in range(_TRIALS - 1):
            try:
                return artefacts.load(folder / _INDEX, "Matcher", read)
            except FileNotFoundError:
                # Saved anew between the two files, unless there is no index.
                if not (folder / _INDEX).exists():
                    raise
        return artefacts.load(folder / _INDEX, "Matcher", read)


def _read_ids(values: Any) -> list[Hashable]:
    if not isinstance(values, list):
        raise ValueError(f"ids must be a list. Received: {values!r:.100}")
    ids = [_from_json(one) for one in values]
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"ids must be different. Received: {len(ids)} ids, of which "
            f"{len(set(ids))} are different"
        )
    return ids


def _read_normalization(folder: pathlib.Path, values: Any) -> ScoreNormalization | None:
    if values is None:
        return None
    try:
        rows, columns = values["shape"]
        name, top, method = (values[key] for key in ("cohort", "top", "method"))
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "score_normalization must be null or have cohort, shape, top and method. "
            f"Received: {values!r:.100}"
        ) from None
    cohort = _read_vectors(folder, name, (rows, columns))
    return ScoreNormalization(cohort, top, method)


def _write_vectors(folder: pathlib.Path, vectors: np.ndarray) -> str:
    """Write vectors to a file of their own, and return its name."""
    name = f"vectors-{_digest(vectors)}-{uuid.uuid4().hex[:16]}.npy"
    with replacing(folder / name) as partial, partial.open("wb") as file:
        np.lib.format.write_array(file, vectors, allow_pickle=False)
    return name


def _read_vectors(
    folder: pathlib.Path, name: Any, shape: tuple[int, int]
) -> np.ndarray:
    """Read vectors, of which nothing is held before the shape is known."""
    if not isinstance(name, str) or not _VECTORS.fullmatch(name):
        raise ValueError(f"vectors must be in a file of them. Received: {name!r}")
    path = folder / name
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        with _PARSING:
            found = np.lib.format.read_array_header_1_0(file)
        if found != (shape, False, np.dtype(np.float32)):
            raise ValueError(
                f"{path.name} must hold float32 vectors of shape {shape}. "
                f"Received: {found[2]} of shape {found[0]}"
            )
        data = file.read()
    size = 4 * math.prod(shape)
    match = _VECTORS.fullmatch(path.name)
    assert match is not None
    vectors = np.frombuffer(data[:size], np.float32)
    if len(data) != size or _digest(vectors) != match[1]:
        raise ValueError(
            f"{path.name} must hold the vectors that were saved. Received: others, or "
            "some of them"
        )
    return vectors.reshape(shape)


def _named_vectors(folder: pathlib.Path) -> set[str]:
    """Names of the files of vectors that count, if there are any."""
    try:
        return _names(json.loads((folder / _INDEX).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Nothing, or something else, which the new index replaces.
        return set()


def _names(values: Any) -> set[str]:
    """Names of the files of vectors that an index names."""
    names = [values["vectors"], (values["score_normalization"] or {}).get("cohort")]
    return {x for x in names if isinstance(x, str) and _VECTORS.fullmatch(x)}


def _clear(folder: pathlib.Path, names: set[str], replaced: set[str]) -> None:
    """Delete what has been replaced, and what saves that were killed have left."""
    for name in replaced:
        (folder / name).unlink(missing_ok=True)
    latest = time.time() - _SECONDS_OF_A_SAVE
    for path in folder.iterdir():
        is_ours = _VECTORS.fullmatch(path.name) or _PARTIAL.fullmatch(path.name)
        if is_ours and path.name not in names:
            # What another save has just written is young, and it may clear this away.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < latest:
                    path.unlink()


def _digest(vectors: np.ndarray) -> str:
    data = np.ascontiguousarray(vectors, np.float32).reshape(-1).view(np.uint8)
    return hashlib.blake2b(data.data, digest_size=8).hexdigest()


def _to_json(one: Hashable) -> Any:
    """An id as JSON has it: a tuple becomes a list."""
    if isinstance(one, tuple):
        return [_to_json(part) for part in one]
    is_number = isinstance(one, int | float) and math.isfinite(one)
    if one is None or is_number or isinstance(one, str):
        return one
    raise TypeError(
        "`ids` must be strings, finite numbers, booleans or tuples of such to be "
        f"saved. Received: {one!r} in the gallery"
    )


def _from_json(one: Any) -> Hashable:
    if isinstance(one, list):
        return tuple(_from_json(part) for part in one)
    if isinstance(one, dict) or (isinstance(one, float) and not math.isfinite(one)):
        raise ValueError(f"ids must be texts, numbers or lists. Received: {one!r}")
    return one
