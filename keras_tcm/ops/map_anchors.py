"""Functions of the similarities of each anchor, in one matrix or block by block."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_tcm.ops.autodiff import pullback, scan

# Entries of a matrix, and of a block, above which blocks are used.
_MAX_MATRIX = 2**24
_BLOCK = 2**22


def automatic_block_size(num_anchors: int | None, width: int | None) -> int | None:
    """Anchors in a block, or `None` for all at once.

    Args:
        num_anchors: Number of anchors, if known.
        width: Entries that are held for each anchor, if known.

    Returns:
        The number, which keeps a block within 16 MiB of float32.
    """
    if num_anchors is None or width is None or num_anchors * width <= _MAX_MATRIX:
        return None
    return max(_BLOCK // width, 1)


def map_anchors(
    function: Callable[..., Any],
    anchors: Any,
    partners: Any,
    inputs: tuple[Any, ...],
    block_size: int | None,
) -> Any:
    """Apply a function to the similarities of each anchor with all partners.

    In blocks, similarities are computed anew for the gradient, and no more than one
    block of them exists at a time.

    Args:
        function: Maps similarities of shape `(a, n)`, and the inputs of as many
            anchors, to a tensor of shape `(a, t)`. No row may depend on another.
        anchors: Unit vectors of shape `(a, d)`.
        partners: Unit vectors of shape `(n, d)`, or `None` for the anchors.
        inputs: Tensors of shape `(a, ...)`, without gradient.
        block_size: Anchors in a block, or `None` for all at once.

    Returns:
        Tensor of shape `(a, t)`.
    """
    if block_size is None:
        if partners is None:
            similarities = _gram(anchors)
        else:
            similarities = ops.matmul(anchors, ops.transpose(partners))
        return function(similarities, *inputs)
    vectors = (anchors,) if partners is None else (anchors, partners)
    return _map_blocks(function, vectors, inputs, block_size)


def _gram(x: Any) -> Any:
    """Products of all rows; the gradient takes one matrix product instead of two."""

    @ops.custom_gradient
    def gram(x: Any) -> Any:
        def gradient(*args: Any, upstream: Any = None) -> Any:
            # The backends pass the upstream gradient in different ways.
            upstream = args[0] if upstream is None else upstream
            return ops.matmul(upstream + ops.transpose(upstream), x)

        return ops.matmul(x, ops.transpose(x)), gradient

    return gram(x)


def _map_blocks(
    function: Callable[..., Any],
    vectors: tuple[Any, ...],
    inputs: tuple[Any, ...],
    block_size: int,
) -> Any:
    num_anchors = ops.shape(vectors[0])[0]
    num_blocks = -(-num_anchors // block_size)
    places = ops.arange(num_blocks * block_size, dtype="int32")
    is_anchor = ops.reshape(places < num_anchors, (-1, block_size, 1))
    # The last block repeats the last anchor; its copies have no gradient.
    places = ops.minimum(places, num_anchors - 1)

    def blocks(x: Any) -> Any:
        shape = (-1, block_size, *x.shape[1:])
        return ops.reshape(ops.take(x, places, axis=0), shape)

    def rows(x: Any) -> Any:
        return ops.reshape(x, (-1, x.shape[-1]))[:num_anchors]

    @ops.custom_gradient
    def mapped(*vectors: Any) -> Any:
        anchors, partners = vectors[0], vectors[-1]
        transposed = ops.transpose(partners)
        input_blocks = tuple(blocks(x) for x in inputs)

        def forward(carry: Any, x: Any) -> tuple[Any, Any]:
            anchors, *inputs = x
            return carry, function(ops.matmul(anchors, transposed), *inputs)

        nothing = ops.zeros((), dtype=anchors.dtype)
        _, values = scan(forward, nothing, (blocks(anchors), *input_blocks))

        def gradient(*args: Any, upstream: Any = None) -> Any:
            upstream = args[0] if upstream is None else upstream
            upstream_blocks = ops.where(is_anchor, blocks(upstream), 0.0)

            def backward(to_partners: Any, x: Any) -> tuple[Any, Any]:
                anchors, upstream, *inputs = x
                slopes = pullback(
                    lambda similarities: function(similarities, *inputs),
                    ops.matmul(anchors, transposed),
                    upstream,
                )
                to_anchors = ops.matmul(slopes, partners)
                step = ops.matmul(ops.transpose(slopes), anchors)
                return to_partners + step, to_anchors

            to_partners, to_anchors = scan(
                backward,
                ops.zeros_like(partners),
                (blocks(anchors), upstream_blocks, *input_blocks),
            )
            to_anchors = rows(to_anchors)
            if len(vectors) == 1:
                return to_anchors + to_partners
            return to_anchors, to_partners

        return rows(values), gradient

    return mapped(*vectors)
