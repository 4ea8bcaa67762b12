"""What a study compares: data sets, networks, losses, seeds, with and without TCM."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_tcm.losses import (
    TCM,
    AutoTCM,
    Contrastive,
    MultiSimilarity,
    RecallAtK,
    SmoothAP,
    SupervisedContrastive,
    TripletMargin,
)
from keras_tcm.study.training import Recipe

PARTS = ("comparison", "tuning", "sweep")
BASE_LOSSES: dict[str, type[keras.losses.Loss]] = {
    "smooth_ap": SmoothAP,
    "multi_similarity": MultiSimilarity,
    "supervised_contrastive": SupervisedContrastive,
    "recall_at_k": RecallAtK,
    "contrastive": Contrastive,
    "triplet_margin": TripletMargin,
    "circle": keras.losses.Circle,
}


@dataclasses.dataclass(frozen=True)
class TCMSetting:
    """The margins of TCM, and its weight beside the base loss."""

    arm = "TCM"

    positive_margin: float
    negative_margin: float
    weight: float

    def __str__(self) -> str:
        margins = f"{self.positive_margin:g}, {self.negative_margin:g}"
        return f"{self.weight:g} * TCM({margins})"

    @property
    def short_name(self) -> str:
        """What tells it from the others of a cell in the name of a run."""
        return f"tcm{self.weight:g}"

    def add_to(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """Return the sum of a base loss and TCM."""
        return loss + self.weight * TCM(self.positive_margin, self.negative_margin)


@dataclasses.dataclass(frozen=True)
class AutoTCMSetting:
    """TCM that sets its own margins and weight, and its strength."""

    arm = "AutoTCM"

    strength: float = 0.5

    def __str__(self) -> str:
        return f"AutoTCM(strength={self.strength:g})"

    @property
    def short_name(self) -> str:
        """What tells it from the others of a cell in the name of a run."""
        return f"auto{self.strength:g}"

    def add_to(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """Return a base loss with TCM."""
        return AutoTCM(loss, strength=self.strength)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One comparison: a data set, a network and how it is trained, a base loss."""

    dataset: str
    recipe: Recipe
    loss: str
    batch_size: int
    steps: int

    @property
    def tuned_for(self) -> tuple[str, Recipe, str]:
        """What margins and a weight of TCM are chosen for."""
        return self.dataset, self.recipe, self.loss


@dataclasses.dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes:
        part: One of `PARTS`: `"tuning"` (trained on a part of the training classes,
            evaluated on the others), `"comparison"` or `"sweep"` (evaluated on the
            test classes).
        cell: What is trained.
        tcm: TCM beside the base loss, by given margins and weight or by its own;
            `None` for the base loss alone.
        seed: Seed of the weights and of the batches.
    """

    part: str
    cell: Cell
    tcm: TCMSetting | AutoTCMSetting | None
    seed: int

    @property
    def name(self) -> str:
        """The name of the run, and of its file."""
        cell = self.cell
        tcm = "none" if self.tcm is None else self.tcm.short_name
        words = (cell.dataset, cell.recipe.backbone, cell.loss, f"b{cell.batch_size}")
        return "-".join((self.part, *words, tcm, f"seed{self.seed}"))

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Where the run's record is among others."""
        return folder / f"{self.name}.json"

    def config(self) -> dict[str, Any]:
        """Return everything that the result depends on, ready for JSON."""
        cell = dataclasses.asdict(self.cell)
        return {
            **cell.pop("recipe"),
            **cell,
            "seed": self.seed,
            "tcm": None if self.tcm is None else dataclasses.asdict(self.tcm),
        }


@dataclasses.dataclass(frozen=True)
class Preset:
    """A grid of comparisons.

    Attributes:
        steps: Training steps of each data set.
        recipes: The networks.
        losses: Base losses of the comparison.
        batch_size: Samples in a batch of the comparison.
        seeds: Seeds of the comparison.
        weights: Weights of TCM to choose from on held-out training classes.
        tuning_steps: Share of the steps to train for when choosing.
        sweep_dataset: Data set of the sweep over losses and batch sizes, which takes
            the first network and the first seed.
        sweep_losses: Its base losses.
        sweep_batch_sizes: Its batch sizes.
    """

    steps: Mapping[str, int]
    recipes: tuple[Recipe, ...]
    losses: tuple[str, ...]
    batch_size: int
    seeds: tuple[int, ...]
    weights: tuple[float, ...]
    tuning_steps: float
    sweep_dataset: str
    sweep_losses: tuple[str, ...]
    sweep_batch_sizes: tuple[int, ...]

    def cells(self) -> Iterator[Cell]:
        """Yield the comparisons."""
        for dataset, steps in self.steps.items():
            for recipe in self.recipes:
                for loss in self.losses:
                    yield Cell(dataset, recipe, loss, self.batch_size, steps)

    def sweep_cells(self) -> Iterator[Cell]:
        """Yield what the sweep trains without TCM and with it."""
        dataset, recipe = self.sweep_dataset, self.recipes[0]
        for loss in self.sweep_losses:
            for batch_size in self.sweep_batch_sizes:
                yield Cell(dataset, recipe, loss, batch_size, self.steps[dataset])

    def tuning_cells(self) -> Iterator[Cell]:
        """Yield the comparisons, and the losses of the sweep, in shorter trainings."""
        cells = [
            *self.cells(),
            *(
                dataclasses.replace(cell, batch_size=self.batch_size)
                for cell in self.sweep_cells()
            ),
        ]
        for cell in dict.fromkeys(cells):
            steps = round(cell.steps * self.tuning_steps)
            yield dataclasses.replace(cell, steps=steps)


_SWEEP_LOSSES = (
    "multi_similarity",
    "smooth_ap",
    "recall_at_k",
    "supervised_contrastive",
    "triplet_margin",
    "contrastive",
    "circle",
)

# Sixteen comparisons on data that need no download, about as long as an evening on a
# small machine.
_EMBEDDED = Preset(
    steps={"glyphs": 800, "symbols": 800, "long_tail": 800, "codes": 800},
    recipes=(
        Recipe("resnet_small", learning_rate=2e-3),
        Recipe("vit_tiny", learning_rate=2e-3, warmup=0.1),
    ),
    losses=("multi_similarity", "smooth_ap"),
    batch_size=128,
    seeds=(0, 1, 2, 3, 4),
    weights=(0.1, 0.3, 1.0),
    tuning_steps=0.5,
    sweep_dataset="glyphs",
    sweep_losses=_SWEEP_LOSSES,
    sweep_batch_sizes=(32, 64, 128),
)

PRESETS: dict[str, Preset] = {
    "embedded": _EMBEDDED,
    # Eight comparisons on pictures that others drew, which npm installs.
    "found": dataclasses.replace(
        _EMBEDDED, steps={"emoji": 800, "icons": 800}, sweep_dataset="emoji"
    ),
    # The benchmarks of the paper. Needs a GPU and the data sets.
    "paper": Preset(
        steps={
            "cub200": 2_000,
            "cars196": 4_000,
            "sop": 20_000,
            "inaturalist2018": 60_000,
        },
        recipes=(
            Recipe(
                "resnet50",
                learning_rate=1e-4,
                warmup=0.05,
                embedding_dim=512,
                image_size=224,
                weights="imagenet",
                freeze_batch_norm=True,
                flip=True,
            ),
            Recipe(
                "vit_base",
                learning_rate=1e-5,
                warmup=0.05,
                embedding_dim=512,
                image_size=224,
                weights="vit_base_patch16_224_imagenet",
                flip=True,
            ),
        ),
        losses=("recall_at_k", "smooth_ap"),
        batch_size=256,
        seeds=(0, 1, 2, 3, 4),
        weights=(0.1, 0.3, 1.0),
        tuning_steps=0.5,
        sweep_dataset="cub200",
        sweep_losses=_SWEEP_LOSSES,
        sweep_batch_sizes=(64, 128, 256),
    ),
    # All parts in a minute or two, to see that they work.
    "smoke": Preset(
        steps={"digits": 8},
        recipes=(Recipe("resnet_small", learning_rate=2e-3, embedding_dim=8),),
        losses=("multi_similarity",),
        batch_size=8,
        seeds=(0, 1),
        weights=(0.3,),
        tuning_steps=1.0,
        sweep_dataset="digits",
        sweep_losses=("supervised_contrastive",),
        sweep_batch_sizes=(8, 12),
    ),
}
