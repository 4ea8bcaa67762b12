"""What `AutoTCM` does to trained models, and where its constants come from.

    KERAS_BACKEND=jax python benchmarks/auto_tcm.py constants
    KERAS_BACKEND=jax python benchmarks/auto_tcm.py comparison
    KERAS_BACKEND=jax python benchmarks/auto_tcm.py losses
    KERAS_BACKEND=jax python benchmarks/auto_tcm.py robustness
    python benchmarks/auto_tcm.py report benchmarks/results/auto_tcm_*.csv

Networks, data sets and recipes are those of `keras-tcm study --preset embedded`. A
whole training is one compiled loop (on a CPU, each step is), with the constants of TCM
as numbers that it is given, so that one program serves many trainings. Results are rows
of a CSV file, in which a blank cell means the default of `Job`; trainings that the file
holds are not repeated. Made for a GPU; on a CPU a training takes a minute or so.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from auto_tcm_results import (
    COSINE_LOSSES,
    GRID,
    Found,
    Job,
    Result,
    read,
    report,
    write,
)

from keras_tcm import data, datasets, evaluate_embeddings, losses, models
from keras_tcm.study.grid import BASE_LOSSES
from keras_tcm.study.training import NUM_EPOCHS, cosine_schedule
from keras_tcm.study.tuning import choose_weight, held_out, margins
from keras_tcm.study.workers import worker_processes

LOSSES = {
    **BASE_LOSSES,
    "arc_face": losses.ArcFace,
    "proxy_anchor": losses.ProxyAnchor,
}
EMBEDDING_DIM = GRID.recipes[0].embedding_dim
# With momentum 0.9; the recipes' own optimizer is Adam.
SGD_LEARNING_RATE = 0.1
# Added to the seed of the batches of a model that is trained before, as long and with
# the base loss alone.
FIRST_SEED = 100
# Jobs that a process does before their results are kept.
CHUNK = 24
# Samples that are embedded at once.
BLOCK = 1024

Plan = Callable[[Found], list[Job]]


# ------------------------------------------------------------------------------- plans


def auto(
    job: Job,
    strength: float = 0.5,
    far_low: float = 0.01,
    far_high: float = 0.1,
    negative_weight: str = "",
) -> Job:
    """The same with `AutoTCM`."""
    return dataclasses.replace(
        job,
        arm="auto",
        strength=strength,
        far_low=far_low,
        far_high=far_high,
        negative_weight=negative_weight,
    )


def both(
    job: Job, strength: float = 0.7, far_low: float = 0.01, far_high: float = 0.1
) -> Job:
    """The same with `AutoTCM` of both terms, as the paper weighs them."""
    return auto(job, strength, far_low, far_high, negative_weight="1")


def pulling(job: Job, strength: float = 0.25) -> Job:
    """The same with `AutoTCM` of the positive term alone."""
    return auto(job, strength, negative_weight="0")


def arms(job: Job) -> list[Job]:
    """The same without TCM, with `AutoTCM`, and with its terms held fixed."""
    return [job, auto(job), both(job), pulling(job)]


def grid(seeds: Iterable[int], **options: Any) -> list[Job]:
    """All cells of the study, without TCM."""
    return [
        Job(cell.dataset, cell.recipe.backbone, cell.loss, seed, **options)
        for seed in seeds
        for cell in GRID.cells()
    ]


def constants(_: Found) -> list[Job]:
    """Strengths and FAR ranges, on held-out training classes."""
    return [
        made
        for job in grid(range(3), held_out=True, steps=400)
        for made in (
            job,
            *(auto(job, strength) for strength in (0.35, 0.5)),
            *(pulling(job, strength) for strength in (0.25, 0.35, 0.7)),
            *(auto(job, s, negative_weight="0.3") for s in (0.5, 0.7, 1.0)),
            *(both(job, strength) for strength in (0.25, 0.5, 0.7, 1.0, 2.0, 4.0)),
            *(both(job, far_low=0.003), both(job, far_high=0.2)),
        )
    ]


def comparison(found: Found) -> list[Job]:
    """Without TCM, with the tuned one, and `AutoTCM`, on the test classes.

    Margins and weights are chosen as the study does it.
    """
    plain = grid(range(1), held_out=True, steps=400)
    trials = {
        (job, weight): dataclasses.replace(
            job, arm="tcm", **vars(margins(found[job], weight))
        )
        for job in plain
        for weight in GRID.weights
        if job in found
    }
    search = [*plain, *trials.values()]
    if not found.keys() >= set(search):
        return search
    jobs = list(search)
    for job in grid(range(5)):
        like = [x for x in plain if (x.network, x.loss) == (job.network, job.loss)]
        weight = choose_weight(
            {w: [(found[x], found[trials[x, w]]) for x in like] for w in GRID.weights}
        )
        (here,) = (x for x in like if x.dataset == job.dataset)
        tuned = dataclasses.replace(
            job, arm="tcm", **vars(margins(found[here], weight))
        )
        jobs += [*arms(job), tuned]
    return jobs


def base_losses(_: Found) -> list[Job]:
    """All base losses, on the test classes of two data sets."""
    cells = [("glyphs", loss) for loss in LOSSES]
    cells += [("codes", loss) for loss in BASE_LOSSES]
    jobs = [
        Job(name, "resnet_small", loss, seed)
        for seed in range(3)
        for name, loss in cells
    ]
    return [made for job in jobs for made in arms(job)]


def robustness(_: Found) -> list[Job]:
    """Other batches, optimizers, dtypes, starts and wrong labels, on test classes."""
    jobs = [
        Job(name, network, "multi_similarity", seed, steps=400, **options)
        for options in (
            *({"batch_size": size} for size in (32, 64, 512)),
            *({"samples_per_class": size} for size in (2, 8)),
            *({"noise": share} for share in (0.05, 0.1)),
            *({"optimizer": "sgd"}, {"policy": "mixed_bfloat16"}, {"trained": True}),
        )
        for seed in range(2)
        for name in ("codes", "glyphs")
        for network in ("resnet_small", "vit_tiny")
    ]
    return [made for job in jobs for made in arms(job)]


PLANS: dict[str, Plan] = {
    "constants": constants,
    "comparison": comparison,
    "losses": base_losses,
    "robustness": robustness,
}


def complete(path: pathlib.Path, plan: Plan, trainers: int, evaluators: int) -> None:
    """Do what a file of results lacks.

    Args:
        path: The file.
        plan: Jobs, given what has been found: perhaps more when it is.
        trainers: Processes that train.
        evaluators: Processes that evaluate.
    """
    found = read(path) if path.exists() else {}
    share_a_gpu = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    no_gpu = {"JAX_PLATFORMS": "cpu", "NUMBA_NUM_THREADS": "1"}
    while missing := [job for job in plan(found) if job not in found]:
        print(f"{len(missing)} trainings", flush=True)
        groups = collections.defaultdict(list)
        for job in sorted(missing, key=lambda job: job.seed):
            groups[job.program].append(job)
        chunks = [
            group[first : first + CHUNK]
            for group in groups.values()
            for first in range(0, len(group), CHUNK)
        ]
        with (
            worker_processes(trainers, share_a_gpu) as train,
            worker_processes(evaluators, no_gpu) as evaluate,
        ):
            trained = [train(train_models, chunk) for chunk in chunks]
            for future in concurrent.futures.as_completed(trained):
                running = {
                    evaluate(measure, job, *made): job for job, made in future.result()
                }
                for done in concurrent.futures.as_completed(running):
                    found[running[done]] = done.result()
                write(path, found)
                print(f"{len(found)} results", flush=True)


# ---------------------------------------------------------------------------- training


@functools.lru_cache(maxsize=4)
def split(dataset: str, is_held_out: bool) -> tuple[np.ndarray, ...]:
    """Return what to train and what to evaluate on: images and labels of each."""
    (x, y), (x_test, y_test) = datasets.load(dataset)
    if not is_held_out:
        return x, np.unique(y, return_inverse=True)[1], x_test, y_test
    away = held_out(y)
    return x[~away], np.unique(y[~away], return_inverse=True)[1], x[away], y[away]


def measure(job: Job, embeddings: np.ndarray, seconds: float) -> Result:
    """Evaluate a trained model, by its embeddings of what it has not seen."""
    found = evaluate_embeddings(
        embeddings, split(job.dataset, job.held_out)[3], verbose=False
    )
    return Result(
        *(found.opis, found.epsilon_opis, found.recall[1], found.map_at_r),
        *found.calibration_range,
        seconds,
    )


def make_model(job: Job, shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """The network with its optimizer, whose outputs are what the loss takes."""
    (recipe,) = (one for one in GRID.recipes if one.backbone == job.network)
    keras.utils.clear_session()
    keras.config.set_dtype_policy(job.policy)
    keras.utils.set_random_seed(job.seed)
    has_cosines = job.loss in COSINE_LOSSES
    model = models.embedding_model(
        models.backbone(job.network, shape),
        EMBEDDING_DIM,
        num_classes=num_classes if has_cosines else None,
    )
    if has_cosines:
        both = [model.output["embedding"], model.output["cosines"]]
        model = keras.Model(model.input, keras.layers.Concatenate()(both))
    is_adam = job.optimizer == "adam"
    rate = recipe.learning_rate if is_adam else SGD_LEARNING_RATE
    schedule = cosine_schedule(rate, recipe.warmup, job.steps)
    model.optimizer = (
        keras.optimizers.Adam(schedule)
        if is_adam
        else keras.optimizers.SGD(schedule, momentum=0.9)
    )
    model.optimizer.build(model.trainable_variables)
    return model


def make_loss(job: Job, numbers: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    """The loss, whose constants may be tensors but for what shapes rest on."""
    base = LOSSES[job.loss]()
    dim = EMBEDDING_DIM if job.loss in COSINE_LOSSES else None
    if job.arm == "auto":
        far_range = job.far_low, job.far_high
        loss = losses.AutoTCM(
            base,
            far_range=far_range,
            embedding_dim=dim,
            negative_weight=float(job.negative_weight) if job.negative_weight else None,
        )
        loss.strength = numbers["strength"]
        return loss
    if job.arm == "tcm":
        tcm = losses.TCM()
        tcm.positive_margin = numbers["positive_margin"]
        tcm.negative_margin = numbers["negative_margin"]
        both = base + tcm
        both.weights = 1.0, numbers["weight"]
        return both
    return base if dim is None else lambda y, x: base(y, x[:, dim:])


def batches(job: Job, y: np.ndarray) -> np.ndarray:
    """The samples of each step, shape `(steps, batch_size)`."""
    sampler = data.ClassBalancedSampler(
        np.arange(len(y)),
        y,
        classes_per_batch=job.batch_size // job.samples_per_class,
        samples_per_class=job.samples_per_class,
        steps_per_epoch=job.steps // NUM_EPOCHS,
        seed=job.seed,
    )
    rows = []
    for _ in range(NUM_EPOCHS):
        rows += [sampler.indices(step) for step in range(len(sampler))]
        sampler.on_epoch_end()
    return np.stack(rows).astype("int32")


def train_models(jobs: Sequence[Job]) -> list[tuple[Job, tuple[np.ndarray, float]]]:
    """Train models by one compiled loop, and embed what they have not seen.

    Args:
        jobs: Jobs of one program, with a number of steps that 8 divides.

    Returns:
        Each job with the embeddings and the seconds that it took.
    """
    import jax
    import jax.numpy as jnp

    parts = [split(job.dataset, job.held_out) for job in jobs]
    # One shape for all data sets: what is beyond a set's own samples is not looked at.
    num_training = max(len(x) for x, *_ in parts)
    num_blocks = max(-(-len(x) // BLOCK) for _, _, x, _ in parts)
    num_classes = max(y.max() + 1 for _, y, *_ in parts)
    make = functools.partial(
        make_model, shape=parts[0][0].shape[1:], num_classes=num_classes
    )
    model = make(jobs[0])
    optimizer = model.optimizer

    @functools.partial(jax.jit, static_argnums=0)
    def steps(job: Job, state: Any, x: Any, y: Any, places: Any, numbers: Any) -> Any:
        loss = make_loss(job, numbers)

        def step(state: Any, here: Any) -> tuple[Any, None]:
            trainable, others, memory = state

            def value(trainable: Any) -> tuple[Any, Any]:
                outputs, changed = model.stateless_call(
                    trainable, others, x[here].astype("float32"), training=True
                )
                return loss(y[here], outputs), changed

            slopes, others = jax.grad(value, has_aux=True)(trainable)
            trainable, memory = optimizer.stateless_apply(memory, slopes, trainable)
            return (trainable, others, memory), None

        if places.ndim == 1:
            return step(state, places)[0]
        return jax.lax.scan(step, state, places)[0]

    def train(job: Job, state: Any, x: Any, y: Any, places: Any, numbers: Any) -> Any:
        # On a CPU, XLA computes the convolutions of a loop many times more slowly.
        is_cpu = jax.default_backend() == "cpu"
        for some in places if is_cpu else [places]:
            state = steps(job, state, x, y, some, numbers)
        return state

    @jax.jit
    def embed(state: Any, x: Any) -> Any:
        outputs, _ = model.stateless_call(*state[:2], x.astype("float32"))
        return outputs[:, :EMBEDDING_DIM].astype("float32")

    @functools.cache
    def start(seed: int) -> Any:
        made = make(dataclasses.replace(jobs[0], seed=seed))
        return tuple(
            [jnp.array(variable.value) for variable in variables]
            for variables in (
                made.trainable_variables,
                made.non_trainable_variables,
                made.optimizer.variables,
            )
        )

    def padded(x: np.ndarray, size: int) -> Any:
        return jnp.asarray(np.resize(x, (size, *x.shape[1:])))

    trained = []
    for job, (x, y, x_new, _) in zip(jobs, parts, strict=True):
        begin = time.perf_counter()
        if job.noise:
            rng = np.random.default_rng(1)
            y, is_wrong = y.copy(), rng.random(len(y)) < job.noise
            y[is_wrong] = rng.permutation(y[is_wrong])
        numbers = {
            name: jnp.float32(value)
            for name, value in vars(job).items()
            if isinstance(value, float)
        }
        samples = padded(x, num_training), padded(y.astype("int32"), num_training)
        state = start(job.seed)
        if job.trained:
            before = dataclasses.replace(job, seed=job.seed + FIRST_SEED)
            state = train(jobs[0].plain, state, *samples, batches(before, y), numbers)
            # What is trained anew has an optimizer of its own.
            state = *state[:2], start(job.seed)[2]
        state = train(jobs[0], state, *samples, batches(job, y), numbers)
        blocks = np.split(padded(x_new, BLOCK * num_blocks), num_blocks)
        embeddings = np.concatenate([embed(state, block) for block in blocks])
        embeddings = embeddings[: len(x_new)]
        trained.append((job, (embeddings, time.perf_counter() - begin)))
    return trained


def main() -> None:
    """Train what is missing, or write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, plan in PLANS.items():
        command = commands.add_parser(name, help=plan.__doc__)
        default = pathlib.Path("benchmarks/results/auto_tcm.csv")
        command.add_argument("--out", type=pathlib.Path, default=default)
        command.add_argument("--trainers", type=int, default=1)
        command.add_argument("--evaluators", type=int, default=os.cpu_count())
    command = commands.add_parser("report", help="print the tables of files of results")
    command.add_argument("files", type=pathlib.Path, nargs="+", metavar="FILE")
    args = parser.parse_args()
    if args.command == "report":
        print(
            report({job: one for path in args.files for job, one in read(path).items()})
        )
        return
    if keras.backend.backend() != "jax":
        parser.error(f"KERAS_BACKEND must be jax. Received: {keras.backend.backend()}")
    complete(args.out, PLANS[args.command], args.trainers, args.evaluators)


if __name__ == "__main__":
    main()
