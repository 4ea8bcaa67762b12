"""A learned scale and bias, in the lengths of the vectors of two towers.

Losses and metrics look at directions alone, so that lengths are free to carry what only
one loss asks for, from a layer to it, through whatever Keras does in between.
"""

from typing import Any

from keras import ops

from keras_tcm.ops.similarity import l2_normalize

# Bias that makes a gallery item longer by a factor of e: lengths stay moderate.
_BIAS_UNIT = 10.0


def write_logit_scale(vectors: Any, scale: Any, bias: Any) -> Any:
    """Give vectors the lengths that carry a scale and a bias.

    Args:
        vectors: Tensor of shape `(batch, 2, d)`, of any norm.
        scale: A scalar above 0.
        bias: A scalar.

    Returns:
        Tensor of the same shape. Zero vectors stay zero.
    """
    lengths = ops.stack([scale, ops.exp(bias / _BIAS_UNIT)])
    return l2_normalize(vectors) * lengths[None, :, None]


def read_logit_scale(vectors: Any) -> tuple[Any, Any]:
    """Read scale and bias from the lengths of vectors.

    Args:
        vectors: Tensor of shape `(batch, 2, d)`, what `write_logit_scale` returns.

    Returns:
        Scale and bias: scalars, differentiable. 1 and 0 if all vectors are zero.
    """
    squares = ops.sum(ops.square(vectors), axis=-1)
    is_nonzero = squares > 0
    lengths = ops.where(is_nonzero, ops.sqrt(ops.where(is_nonzero, squares, 1.0)), 0.0)
    counts = ops.sum(ops.cast(is_nonzero, lengths.dtype), axis=0)
    means = ops.where(
        counts > 0, ops.sum(lengths, axis=0) / ops.maximum(counts, 1.0), 1.0
    )
    return means[0], _BIAS_UNIT * ops.log(means[1])
