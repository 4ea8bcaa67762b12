"""Arrays that are generated once and kept in a file."""

import os
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_tcm.files import replacing

Arrays = dict[str, np.ndarray]

# What reading raises for a file that is damaged, of another kind or out of reach. An
# array in place of an archive is the `TypeError`.
_UNREADABLE = (
    EOFError,
    KeyError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def cached_arrays(
    file_name: str,
    keys: Sequence[str],
    generate: Callable[[], Arrays],
    data_dir: str | os.PathLike[str] | None = None,
) -> Arrays:
    """Reads arrays from an `.npz` file, or generates them and writes it.

    Warns where there is a file that cannot be read, or none can be written.

    Args:
        file_name: Name of the file; it should change whenever the data do.
        keys: The arrays to return.
        generate: Called without arguments when there is no sound file. Returns all
            arrays of the file.
        data_dir: Folder of the file. Defaults to `keras_tcm` in `$KERAS_HOME`, or
            in `~/.keras` where that is not set.

    Returns:
        The arrays named in `keys`.
    """
    path = _folder(data_dir) / file_name
    found = _read(path, keys)
    if found is not None:
        return found
    arrays = generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, open(partial, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        warnings.warn(
            f"{path} could not be written ({error}); the data will be generated "
            "again next time. Pass a writable `data_dir` to keep them.",
            stacklevel=2,
        )
    return {key: arrays[key] for key in keys}


def _read(path: Path, keys: Sequence[str]) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in keys}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _UNREADABLE as error:
        warnings.warn(
            f"{path} could not be read ({type(error).__name__}: {error}); the data "
            "are generated anew.",
            stacklevel=3,
        )
        return None


def _folder(data_dir: str | os.PathLike[str] | None) -> Path:
    if data_dir is not None:
        return Path(data_dir).expanduser()
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "keras_tcm"
