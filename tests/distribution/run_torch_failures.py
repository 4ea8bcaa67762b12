"""What two ranks of `torch.distributed` say when they do not fit together."""

import sys
import time
from datetime import timedelta

import scenarios
import torch
from torch import distributed

from keras_tcm import losses
from keras_tcm.metrics import OPIS


def message_of(function, *arguments):
    try:
        function(*arguments)
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(store, rank):
    x, y, _ = (torch.from_numpy(array) for array in scenarios.samples(16))
    results = {"before": float(losses.TCM()(y, x))}
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    wide = x[:, : 8 - rank]
    results["width"] = message_of(losses.TCM(), y, wide)
    results["width of metric"] = message_of(OPIS().update_state, y, wide)
    results["label rows"] = message_of(
        losses.TCM(relevance=lambda a, b: a[:, None] == b[None]),
        y if rank == 0 else y[:, None],
        x,
    )
    distributed.barrier()
    # What follows breaks the group: the other rank has no batch left.
    if rank == 0:
        results["without gather"] = float(losses.TCM(gather=False)(y, x))
        results["alone"] = message_of(losses.TCM(), y, x)
    scenarios.report(results)
    if rank == 1:
        time.sleep(float(sys.argv[3]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
