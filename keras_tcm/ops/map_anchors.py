"""Functions of the similarities of each anchor, in one matrix or block by block."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_tcm.ops.autodiff import pullback, scan, upstream_gradient
from keras_tcm.ops.integers import as_integer
from keras_tcm.ops.tracing import is_traced

# Entries of a matrix above which it is computed in blocks, which stay in the cache, and
# above which even the blocks are not kept for the gradient, to save memory, and are
# smaller as well.
_MAX_MATRIX = 2**21
_MAX_KEPT = 2**24
_BLOCK = 2**19
_BLOCK_ANEW = 2**18
# The first of them for a Gram matrix that XLA may compile: without a loop over blocks,
# whose results it keeps, it would compute the gradient anew for the transpose, and that
# column by column.
_MAX_COMPILED = 2**14


def map_anchors(
    function: Callable[..., Any],
    anchors: Any,
    partners: Any,
    inputs: tuple[Any, ...],
    block_size: int | None,
    compares_partners: bool,
    similarities: Callable[[], Any] | None = None,
) -> Any:
    """Apply a function to the similarities of each anchor with all partners.

    Value and gradient take two products of matrices where the anchors are the partners
    and the similarities are kept for the gradient, instead of the three of automatic
    differentiation: see `gram_matrix`.

    Args:
        function: Maps similarities of shape `(a, n)`, and the inputs of as many
            anchors, to a tensor of shape `(a, t)`. No row may depend on another.
        anchors: Unit vectors of shape `(a, d)`.
        partners: Unit vectors of shape `(n, d)`, or `None` for the anchors.
        inputs: Tensors of shape `(a, ...)`, without gradient.
        block_size: Anchors in a block, or `None` for what suits caches and memory:
            one matrix where it is known to be small.
        compares_partners: Whether the function holds, for each anchor, as many
            entries as there are pairs of partners, and not of partners alone.
        similarities: Returns the matrix of all similarities, differentiable, where
            there is a cheaper way to it than its product. Defaults to `None`.

    Returns:
        Tensor of shape `(a, t)`.
    """

    def in_blocks(size: Any, are_kept: bool = False) -> Any:
        return _map_blocks(function, anchors, partners, inputs, size, are_kept)

    if block_size is not None:
        return in_blocks(block_size)
    power = 2 if compares_partners else 1
    others = anchors if partners is None else partners
    num_anchors, num_partners = anchors.shape[0], others.shape[0]
    if num_anchors is None or num_partners is None:
        # In a graph for any batch size. In float32: the number of entries may exceed
        # the integers.
        num_anchors, num_partners = (ops.shape(x)[0] for x in (anchors, others))
        width = ops.cast(num_partners, "float32") ** power
        size = ops.cast(ops.maximum(_BLOCK / width, 1.0), "int32")
        return in_blocks(ops.minimum(size, as_integer(num_anchors + 1)))
    width = num_partners**power
    is_gram = partners is None and not compares_partners
    is_compiled = keras.backend.backend() != "torch" and is_traced(anchors)
    limit = min(_MAX_COMPILED, _MAX_MATRIX) if is_gram and is_compiled else _MAX_MATRIX
    if num_anchors * width > limit:
        are_kept = num_anchors * width <= _MAX_KEPT
        # Two at least: a loop over one block is none.
        entries = _BLOCK if are_kept else _BLOCK_ANEW
        size = min(entries // width, -(-num_anchors // 2))
        return in_blocks(max(size, 1), are_kept)
    if similarities is not None:
        return function(similarities(), *inputs)
    if partners is None:
        return function(gram_matrix(anchors), *inputs)
    return function(ops.matmul(anchors, ops.transpose(partners)), *inputs)


def gram_matrix(x: Any) -> Any:
    """Inner products between the rows of a matrix, for a gradient of one product.

    Args:
        x: Tensor of shape `(n, d)`.

    Returns:
        Tensor of shape `(n, n)`.
    """

    @ops.custom_gradient
    def product(x: Any) -> tuple[Any, Callable[..., Any]]:
        def gradient(*args: Any, upstream: Any = None) -> Any:
            return _gram_gradient(upstream_gradient(args, upstream), x)

        return ops.matmul(x, ops.transpose(x)), gradient

    return product(x)


def _gram_gradient(slopes: Any, x: Any) -> Any:
    """Gradient of the rows from that of their inner products, `(G + G^T) x`."""
    return ops.matmul(slopes + ops.transpose(slopes), x)


def _map_blocks(
    function: Callable[..., Any],
    anchors: Any,
    partners: Any,
    inputs: tuple[Any, ...],
    size: Any,
    are_kept: bool,
) -> Any:
    """Apply the function to blocks of `size` anchors.

    The similarities of all blocks are kept for the gradient, or computed anew, and then
    no more than one block exists at a time.
    """
    num_anchors = ops.shape(anchors)[0]
    # A replica may have no anchor, for want of samples: then one of nothing is added.
    may_be_empty = not isinstance(num_anchors, int) or num_anchors == 0
    num_rows = num_anchors + int(may_be_empty)
    num_blocks = -(-num_rows // size)
    places = ops.arange(num_blocks * size, dtype="int32")
    is_anchor = ops.reshape(places < num_anchors, (-1, size, 1))
    # The last block repeats the last row; its copies have no gradient.
    places = ops.minimum(places, as_integer(num_rows - 1))

    def split(x: Any) -> Any:
        if may_be_empty:
            x = ops.concatenate([x, ops.zeros((1, *ops.shape(x)[1:]), dtype=x.dtype)])
        shape = (-1, size, *ops.shape(x)[1:])
        return ops.reshape(ops.take(x, places, axis=0), shape)

    def join(x: Any) -> Any:
        return ops.reshape(x, (-1, ops.shape(x)[-1]))[:num_anchors]

    @ops.custom_gradient
    def mapped(*vectors: Any) -> Any:
        are_same = len(vectors) == 1
        # The gradient is below: nobody need follow the loops, which TensorFlow would
        # not compile then.
        vectors = tuple(map(ops.stop_gradient, vectors))
        anchors, partners = vectors[0], vectors[-1]
        transposed = ops.transpose(partners)
        anchor_blocks = split(anchors)
        input_blocks = tuple(split(x) for x in inputs)

        def nothing() -> Any:
            return ops.zeros((), dtype=anchors.dtype)

        def forward(x: Any) -> tuple[Any, Any]:
            anchors, *inputs = x
            similarities = ops.matmul(anchors, transposed)
            values = function(similarities, *inputs)
            return nothing(), (values, similarities) if are_kept else (values,)

        _, (values, *kept) = scan(
            forward, nothing(), (anchor_blocks, *input_blocks), 1 + are_kept
        )

        def gradient(*args: Any, upstream: Any = None) -> Any:
            upstream = ops.stop_gradient(upstream_gradient(args, upstream))
            upstream = split(upstream)
            upstream = ops.where(is_anchor, upstream, 0.0)
            # Either the similarities themselves or what they are computed from.
            sources = kept[0] if are_kept else anchor_blocks

            def slopes(source: Any, upstream: Any, inputs: Any) -> Any:
                return pullback(
                    lambda similarities: function(similarities, *inputs),
                    source if are_kept else ops.matmul(source, transposed),
                    upstream,
                )

            def to_similarities(x: Any) -> tuple[Any, Any]:
                source, upstream, *inputs = x
                of_block = slopes(source, upstream, inputs)
                # Rows as long as a power of two would share few lines of the cache, and
                # make their transposition many times as slow.
                return nothing(), (ops.pad(of_block, ((0, 0), (0, 1))),)

            def to_vectors(x: Any) -> tuple[Any, Any]:
                anchors, source, upstream, *inputs = x
                of_block = slopes(source, upstream, inputs)
                step = ops.matmul(ops.transpose(of_block), anchors)
                return step, (ops.matmul(of_block, partners),)

            xs = (sources, upstream, *input_blocks)
            if are_kept and are_same:
                _, (blocks,) = scan(to_similarities, nothing(), xs, 1)
                return _gram_gradient(join(blocks)[:, :-1], anchors)
            to_partners, (to_anchors,) = scan(
                to_vectors, ops.zeros_like(partners), (anchor_blocks, *xs), 1
            )
            if are_same:
                return join(to_anchors) + to_partners
            return join(to_anchors), to_partners

        return join(values), gradient

    return mapped(anchors) if partners is None else mapped(anchors, partners)
