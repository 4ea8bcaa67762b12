"""Trains in one process and in two of a `torch.distributed` group.

Rank 0 trains in one process before it joins the group.
"""

import importlib.util
import sys
from datetime import timedelta

import numpy as np
import scenarios
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from keras_tcm import losses
from keras_tcm.distribution import data_parallel

# A machine may be busy.
SECONDS = 240


def train_with_ddp(rank=0, is_parallel=False):
    """A loop in PyTorch, as its users write it."""
    x, y, w = (torch.from_numpy(array) for array in scenarios.samples(32))
    model = scenarios.encoder()
    network = DistributedDataParallel(model) if is_parallel else model
    loss = losses.MultiSimilarity() + losses.TCM(0.6, 0.1)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for start in (0, 16):
        rows = slice(start, start + 16)
        if is_parallel:
            rows = [slice(start, start + 9), slice(start + 9, start + 16)][rank]
        optimizer.zero_grad()
        loss(y[rows], network(x[rows]), w[rows]).backward()
        optimizer.step()
    return scenarios.flat_weights(model)


def peer():
    from pytorch_metric_learning.losses import MultiSimilarityLoss

    from keras_tcm.interop.pytorch_metric_learning import as_keras_loss

    return as_keras_loss(MultiSimilarityLoss()) + losses.TCM(0.6, 0.1)


def main(store, rank, names):
    runs = dict(scenarios.SCENARIOS)
    if importlib.util.find_spec("pytorch_metric_learning"):
        runs["peer"] = scenarios.Scenario(peer)
    names = names or list(runs)
    sizes = scenarios.batch_sizes(is_uneven=True)
    one = {}
    if rank == 0:
        one = {name: scenarios.train(runs[name], sizes) for name in names}
        one_by_hand = train_with_ddp()
        one_with_sampler = scenarios.train_with_sampler()
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=SECONDS),
    )
    # The ranks have parts of different sizes.
    cuts = [size // 2 + 1 for size in sizes]
    results = {}
    for name in names:
        two = scenarios.train(runs[name], sizes, rank, cuts, prepare=data_parallel)
        both = [None, None]
        distributed.all_gather_object(both, two)
        if rank == 0:
            results[name] = scenarios.compare(one[name], two)
            results[f"{name}, ranks"] = scenarios.compare(*both)
    two_by_hand = train_with_ddp(rank, is_parallel=True)
    two_with_sampler = scenarios.train_with_sampler(2, rank, prepare=data_parallel)
    if rank == 0:
        results["by hand"] = float(np.abs(two_by_hand - one_by_hand).max())
        difference = np.abs(two_with_sampler - one_with_sampler)
        results["sampler"] = float(difference.max())
    scenarios.report(results)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
