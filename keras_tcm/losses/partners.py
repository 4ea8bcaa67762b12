"""Partners for the pairwise losses from outside of the batch."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

# Maps the embeddings, labels and weights of a batch to those of its extra partners.
Partners = Callable[[Any, Any, Any], tuple[Any, Any, Any]]

_partners: contextvars.ContextVar[Partners | None] = contextvars.ContextVar(
    "partners", default=None
)


def extra_partners() -> Partners | None:
    """What gives extra partners here, if anything does."""
    return _partners.get()


@contextlib.contextmanager
def use_partners(partners: Partners) -> Iterator[None]:
    """Let the pairwise losses called inside see extra partners."""
    token = _partners.set(partners)
    try:
        yield
    finally:
        _partners.reset(token)
