"""Replicas of a process group of `torch.distributed`."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import torch
from torch import distributed

from keras_tcm._keras_internals import (
    change_metrics_results,
    has_changed_metrics_results,
    trains_on_all_ranks,
)
from keras_tcm.distribution.replicas import Replicas

_KINDS = "batch size", "dimensions", "entries of a row", "bytes of an entry", "float"


class GroupReplicas(Replicas):
    """The processes of the default group, one replica each."""

    def __init__(self) -> None:
        self.count = distributed.get_world_size()
        self.rank = distributed.get_rank()
        # `DistributedDataParallel` averages gradients.
        self.gradient_scale = float(self.count)

    @torch.compiler.disable
    def gather(self, tensors: Sequence[Any]) -> tuple[list[Any], Any]:
        """Join the parts of the global batch, in the order of the ranks."""
        sizes = self._exchange_sizes(tensors)
        with _advice():
            joined = [_Join.apply(x, sizes, self.rank) for x in tensors]
        return joined, sum(sizes[: self.rank])

    @torch.compiler.disable
    def sum(self, value: Any) -> Any:
        """Add a tensor of the same shape on all ranks up, without gradient."""
        value = value.detach().clone()
        with _advice():
            distributed.all_reduce(value)
        return value

    def _exchange_sizes(self, tensors: Sequence[torch.Tensor]) -> list[int]:
        """Tell each other the batch sizes, and check that all else agrees.

        Without this, ranks whose tensors differ would wait for each other, or read
        what the other did not write.
        """
        own = [
            [
                len(x),
                x.ndim,
                x.shape[1:].numel(),
                x.element_size(),
                x.is_floating_point(),
            ]
            for x in tensors
        ]
        description = torch.tensor(own, device=tensors[0].device)
        with _advice():
            every = _all_gather(description, self.count)
        # Of each rank, of each tensor, each kind.
        found = [x.tolist() for x in every]
        for number in range(len(tensors)):
            for kind, name in enumerate(_KINDS):
                values = [of_rank[number][kind] for of_rank in found]
                if kind and len(set(values)) > 1:
                    raise ValueError(
                        "All ranks must compute the loss, or the metric, of the same "
                        "kind of predictions and labels; only batch sizes may differ. "
                        f"Received: {name} of tensor {number} on each rank: {values}"
                    )
        return [of_rank[0][0] for of_rank in found]


class _Join(torch.autograd.Function):
    """Concatenation over ranks, whose gradient is the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, sizes: list[int], rank: int) -> torch.Tensor:
        start = sum(sizes[:rank])
        ctx.rows = slice(start, start + sizes[rank])
        padded = x.new_zeros((max(sizes), *x.shape[1:]))
        padded[: len(x)] = x
        parts = _all_gather(padded, len(sizes))
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        # Every backend has an all-reduce; gloo has no reduce-scatter for all types.
        upstream = upstream.clone(memory_format=torch.contiguous_format)
        with _advice():
            distributed.all_reduce(upstream)
        return upstream[ctx.rows], None, None


def _all_gather(x: torch.Tensor, count: int) -> list[torch.Tensor]:
    parts = [torch.empty_like(x) for _ in range(count)]
    distributed.all_gather(parts, x)
    return parts


@contextlib.contextmanager
def _advice() -> Iterator[None]:
    """Say what may be wrong when the others do not answer."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"Rank {distributed.get_rank()} of {distributed.get_world_size()} did not "
            "hear from all others. Another rank failed (see its own message), or runs "
            "out of batches earlier: all need the same number of batches, and must "
            "compute losses and metrics on the same occasions. What one rank does by "
            "itself needs `gather=False`. How long to wait is the `timeout` of "
            "`torch.distributed.init_process_group`. "
            f"The group says: {error}"
        ) from error


def active_replicas(tensor: Any) -> Replicas | None:
    """Find the replicas of the current step, if there are several."""
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    if tensor.is_meta or distributed.get_world_size() == 1:
        return None
    return GroupReplicas()


def synchronize(model: Any) -> None:
    """Make `fit` on several ranks train one model: see `data_parallel`."""
    replicas = active_replicas(torch.empty(0))
    is_done = trains_on_all_ranks(model) or has_changed_metrics_results(model)
    if replicas is None or is_done:
        return
    with _advice():
        for variable in model.variables:
            distributed.broadcast(variable.value.data, src=0)

    def average(parameter: torch.Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        with _advice():
            distributed.all_reduce(gradient)
        gradient /= replicas.count

    for variable in model.trainable_variables:
        variable.value.register_post_accumulate_grad_hook(average)

    def results_of_all(keras_results: Callable[[], Any]) -> Any:
        mapping = [(v, replicas.sum(v.value)) for v in model.metrics_variables]
        with keras.StatelessScope(state_mapping=mapping):
            return keras_results()

    change_metrics_results(model, results_of_all)
