"""Functions of the similarities of each anchor, in one matrix or block by block."""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_tcm.ops.autodiff import pullback, scan

# Entries of a matrix above which it is computed in blocks, which stay in the cache, and
# above which even the blocks are not kept for the gradient.
_MAX_MATRIX = 2**21
_MAX_KEPT = 2**24
_BLOCK = 2**20


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How similarities are computed block by block.

    Attributes:
        size: Anchors in a block.
        are_kept: Whether all blocks are kept for the gradient; otherwise they are
            computed anew, and no more than one exists at a time.
    """

    size: int
    are_kept: bool


def automatic_blocks(num_anchors: int | None, width: int | None) -> Blocks | None:
    """Choose blocks that suit caches and memory.

    Args:
        num_anchors: Number of anchors, if known.
        width: Entries that are held for each anchor, if known.

    Returns:
        The blocks, or `None` for one matrix.
    """
    if num_anchors is None or width is None or num_anchors * width <= _MAX_MATRIX:
        return None
    return Blocks(max(_BLOCK // width, 1), num_anchors * width <= _MAX_KEPT)


@dataclasses.dataclass(frozen=True)
class AnchorFunction:
    """A function of the similarities of each anchor with all partners.

    Attributes:
        values: Maps similarities of shape `(a, n)`, and the inputs of as many anchors,
            to a tensor of shape `(a, t)`. No row may depend on another.
        symmetric_slopes: Where anchors and partners are the same samples, an optional
            short cut to the gradient. Maps the same, and the upstream gradients of the
            anchors `(a, t)` and of the partners `(n, t)`, to the gradient of each
            similarity as one of its anchor's and as one of its partner's, `(a, n)`.
    """

    values: Callable[..., Any]
    symmetric_slopes: Callable[..., Any] | None = None


def map_anchors(
    function: AnchorFunction,
    anchors: Any,
    partners: Any,
    inputs: tuple[Any, ...],
    blocks: Blocks | None,
) -> Any:
    """Apply a function to the similarities of each anchor with all partners.

    Args:
        function: The function.
        anchors: Unit vectors of shape `(a, d)`.
        partners: Unit vectors of shape `(n, d)`, or `None` for the anchors.
        inputs: Tensors of shape `(a, ...)`, without gradient.
        blocks: How to divide the anchors, or `None` for all at once.

    Returns:
        Tensor of shape `(a, t)`.
    """
    if blocks is None:
        others = anchors if partners is None else partners
        similarities = ops.matmul(anchors, ops.transpose(others))
        return function.values(similarities, *inputs)
    vectors = (anchors,) if partners is None else (anchors, partners)
    return _map_blocks(function, vectors, inputs, blocks)


def _map_blocks(
    function: AnchorFunction,
    vectors: tuple[Any, ...],
    inputs: tuple[Any, ...],
    blocks: Blocks,
) -> Any:
    num_anchors = ops.shape(vectors[0])[0]
    num_blocks = -(-num_anchors // blocks.size)
    places = ops.arange(num_blocks * blocks.size, dtype="int32")
    is_anchor = ops.reshape(places < num_anchors, (-1, blocks.size, 1))
    # The last block repeats the last anchor; its copies have no gradient.
    places = ops.minimum(places, num_anchors - 1)
    slopes_of = function.symmetric_slopes if len(vectors) == 1 else None

    def split(x: Any) -> Any:
        shape = (-1, blocks.size, *x.shape[1:])
        return ops.reshape(ops.take(x, places, axis=0), shape)

    def join(x: Any) -> Any:
        return ops.reshape(x, (-1, x.shape[-1]))[:num_anchors]

    @ops.custom_gradient
    def mapped(*vectors: Any) -> Any:
        anchors, partners = vectors[0], vectors[-1]
        transposed = ops.transpose(partners)
        anchor_blocks = split(anchors)
        input_blocks = tuple(split(x) for x in inputs)
        nothing = ops.zeros((), dtype=anchors.dtype)

        def forward(carry: Any, x: Any) -> tuple[Any, Any]:
            anchors, *inputs = x
            similarities = ops.matmul(anchors, transposed)
            values = function.values(similarities, *inputs)
            return carry, (values, similarities) if blocks.are_kept else (values,)

        _, (values, *kept) = scan(
            forward, nothing, (anchor_blocks, *input_blocks), 1 + blocks.are_kept
        )

        def gradient(*args: Any, upstream: Any = None) -> Any:
            # The backends pass the upstream gradient in different ways.
            upstream = args[0] if upstream is None else upstream
            upstream_blocks = ops.where(is_anchor, split(upstream), 0.0)
            # Either the similarities themselves or what they are computed from.
            sources = kept[0] if kept else anchor_blocks

            def similarities_of(source: Any) -> Any:
                return source if kept else ops.matmul(source, transposed)

            def each_end(to_partners: Any, x: Any) -> tuple[Any, Any]:
                anchors, source, own, *inputs = x
                slopes = pullback(
                    lambda similarities: function.values(similarities, *inputs),
                    similarities_of(source),
                    own,
                )
                step = ops.matmul(ops.transpose(slopes), anchors)
                return to_partners + step, (ops.matmul(slopes, partners),)

            xs = (sources, upstream_blocks, *input_blocks)
            if slopes_of is not None:

                def both_ends(carry: Any, x: Any) -> tuple[Any, Any]:
                    source, own, *inputs = x
                    slopes = slopes_of(similarities_of(source), *inputs, own, upstream)
                    return carry, (ops.matmul(slopes, partners),)

                _, (to_anchors,) = scan(both_ends, nothing, xs, 1)
                return join(to_anchors)

            to_partners, (to_anchors,) = scan(
                each_end, ops.zeros_like(partners), (anchor_blocks, *xs), 1
            )
            if len(vectors) == 1:
                return join(to_anchors) + to_partners
            return join(to_anchors), to_partners

        return join(values), gradient

    return mapped(*vectors)
