"""Functions of the similarities of each anchor, in one matrix or block by block."""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_tcm.ops.autodiff import pullback, scan
from keras_tcm.ops.integers import as_integer

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

    size: Any
    are_kept: bool


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
    block_size: int | None,
    compares_partners: bool,
) -> Any:
    """Apply a function to the similarities of each anchor with all partners.

    Args:
        function: The function.
        anchors: Unit vectors of shape `(a, d)`.
        partners: Unit vectors of shape `(n, d)`, or `None` for the anchors.
        inputs: Tensors of shape `(a, ...)`, without gradient.
        block_size: Anchors in a block, or `None` for what suits caches and memory:
            one matrix where it is known to be small.
        compares_partners: Whether the function holds, for each anchor, as many
            entries as there are pairs of partners, and not of partners alone.

    Returns:
        Tensor of shape `(a, t)`.
    """
    vectors = (anchors,) if partners is None else (anchors, partners)

    def in_one_matrix() -> Any:
        similarities = ops.matmul(anchors, ops.transpose(vectors[-1]))
        return function.values(similarities, *inputs)

    def in_blocks(size: Any, are_kept: bool = False) -> Any:
        return _map_blocks(function, vectors, inputs, Blocks(size, are_kept))

    if block_size is not None:
        return in_blocks(block_size)
    power = 2 if compares_partners else 1
    num_anchors, num_partners = vectors[0].shape[0], vectors[-1].shape[0]
    if num_anchors is None or num_partners is None:
        # In a graph for any batch size. In float32: the number of entries may exceed
        # the integers.
        num_anchors, num_partners = (ops.shape(x)[0] for x in (vectors[0], vectors[-1]))
        width = ops.cast(num_partners, "float32") ** power
        size = ops.cast(ops.maximum(_BLOCK / width, 1.0), "int32")
        return in_blocks(ops.minimum(size, as_integer(num_anchors + 1)))
    width = num_partners**power
    if num_anchors * width <= _MAX_MATRIX:
        return in_one_matrix()
    are_kept = num_anchors * width <= _MAX_KEPT
    return in_blocks(max(_BLOCK // width, 1), are_kept)


def _map_blocks(
    function: AnchorFunction,
    vectors: tuple[Any, ...],
    inputs: tuple[Any, ...],
    blocks: Blocks,
) -> Any:
    num_anchors = ops.shape(vectors[0])[0]
    # A replica may have no anchor, for want of samples: then one of nothing is added.
    may_be_empty = not isinstance(num_anchors, int) or num_anchors == 0
    num_rows = num_anchors + int(may_be_empty)
    num_blocks = -(-num_rows // blocks.size)
    places = ops.arange(num_blocks * blocks.size, dtype="int32")
    is_anchor = ops.reshape(places < num_anchors, (-1, blocks.size, 1))
    # The last block repeats the last row; its copies have no gradient.
    places = ops.minimum(places, as_integer(num_rows - 1))
    slopes_of = function.symmetric_slopes if len(vectors) == 1 else None

    def split(x: Any) -> Any:
        if may_be_empty:
            x = ops.concatenate([x, ops.zeros((1, *ops.shape(x)[1:]), dtype=x.dtype)])
        shape = (-1, blocks.size, *ops.shape(x)[1:])
        return ops.reshape(ops.take(x, places, axis=0), shape)

    def join(x: Any) -> Any:
        return ops.reshape(x, (-1, ops.shape(x)[-1]))[:num_anchors]

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
