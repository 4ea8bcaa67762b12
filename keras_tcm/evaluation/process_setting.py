"""A setting of the whole process, of which several threads need the same value."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class ProcessSetting:
    """Holds a setting at one value while anybody is inside a `with` block.

    To put back on leaving what was found on entering would do only if blocks of
    several threads ended in the reverse order of their starts. Here the last to leave
    puts back what was found, unless somebody else has changed the setting since.

    Args:
        read: Returns the setting.
        write: Takes what `read` returned, and puts it back.
        hold: Sets the value that is needed.
    """

    def __init__(
        self,
        read: Callable[[], Any],
        write: Callable[[Any], None],
        hold: Callable[[], None],
    ) -> None:
        self._read, self._write, self._hold = read, write, hold
        self._lock = threading.Lock()
        self._num_inside = 0
        self._found: Any = None
        self._held: Any = None

    def __enter__(self) -> None:
        with self._lock:
            now = self._read()
            if not self._num_inside or now != self._held:
                self._hold()
                self._found, self._held = now, self._read()
            self._num_inside += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside and self._read() == self._held:
                self._write(self._found)
