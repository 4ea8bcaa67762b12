"""Variables that keep the last rows of a stream."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_tcm.ops.integers import as_integer


def write_rows(buffers: Sequence[Any], rows: Sequence[Any], seen: Any) -> None:
    """Write a batch over the oldest rows of some buffers.

    Args:
        buffers: Variables of shape `(size, ...)`.
        rows: A tensor of shape `(batch, ...)` for each. Of a batch larger than the
            buffers, the end remains.
        seen: Integer variable: rows written so far; increased by the batch size.
    """
    size = buffers[0].shape[0]
    last = [x[-size:] for x in rows]
    kept = ops.shape(last[0])[0]
    end = ops.convert_to_tensor(seen) + ops.shape(rows[0])[0]
    places = end - kept + ops.arange(kept, dtype="int32")
    places = ops.mod(places, as_integer(size))[:, None]
    for buffer, x in zip(buffers, last, strict=True):
        x = ops.cast(x, buffer.dtype)
        # On JAX a variable itself cannot be updated so.
        old = ops.convert_to_tensor(buffer)
        buffer.assign(ops.scatter_update(old, places, x))
    seen.assign(end)
