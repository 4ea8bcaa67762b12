"""What `auto_tcm.py` finds: a file of results, and its tables."""

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import harness
import numpy as np

from keras_tcm.files import write_text
from keras_tcm.study.estimate import mean_estimate
from keras_tcm.study.grid import PRESETS

GRID = PRESETS["embedded"]
COSINE_LOSSES = ("arc_face", "proxy_anchor")
# A loss of R@1 up to it counts as none, in points.
TOLERATED = 0.25


@dataclasses.dataclass(frozen=True)
class Job:
    """A training; see `Recipe`, `TCM` and `AutoTCM`.

    Attributes:
        held_out: Whether the last quarter of the training classes is evaluated, and not
            trained on; otherwise the test classes.
        noise: Share of the training labels that are drawn anew.
        policy: Dtype policy.
        arm: `"none"`, `"tcm"` or `"auto"`.
        negative_weight: That of `AutoTCM`, in digits, where it is held fixed.
        rule: Anything in which `AutoTCM` differed from the released one, in words.
    """

    dataset: str
    network: str
    loss: str
    seed: int
    held_out: bool = False
    steps: int = 800
    batch_size: int = 128
    samples_per_class: int = 4
    noise: float = 0.0
    optimizer: str = "adam"
    policy: str = "float32"
    trained: bool = False
    arm: str = "none"
    positive_margin: float = 0.0
    negative_margin: float = 0.0
    weight: float = 0.0
    strength: float = 0.0
    far_low: float = 0.0
    far_high: float = 0.0
    negative_weight: str = ""
    rule: str = ""

    @property
    def plain(self) -> "Job":
        """The same without TCM."""
        fields = dataclasses.fields(self)
        arm = fields[[field.name for field in fields].index("arm") :]
        return dataclasses.replace(self, **{field.name: field.default for field in arm})

    @property
    def cell(self) -> str:
        """What is trained, in words."""
        return f"{self.dataset}, {self.network}, {self.loss}"

    @property
    def setting(self) -> str:
        """In what the training differs from the others of its cell, in words."""
        words = {
            f"batch size {self.batch_size}": self.batch_size != 128,
            f"{self.samples_per_class} a class": self.samples_per_class != 4,
            f"{self.noise:.0%} of the labels wrong": self.noise > 0,
            self.optimizer: self.optimizer != "adam",
            self.policy: self.policy != "float32",
            "from a trained model": self.trained,
        }
        return ", ".join(word for word, is_different in words.items() if is_different)

    @property
    def label(self) -> str:
        """What brings TCM in, in words."""
        if self.arm == "tcm":
            return f"TCM, weight {self.weight:g}" if self.held_out else "tuned TCM"
        words = [f"strength {self.strength:g}"]
        if (self.far_low, self.far_high) != (0.01, 0.1):
            words.append(f"FAR {self.far_low:.1%} to {self.far_high:.0%}")
        if self.negative_weight:
            words.append(f"negative weight {self.negative_weight}")
        return ", ".join([*words, self.rule] if self.rule else words)

    @property
    def program(self) -> tuple[Any, ...]:
        """What one compiled loop has in common."""
        return (
            *(self.network, self.loss, self.arm, self.steps, self.batch_size),
            *(self.samples_per_class, self.optimizer, self.policy, self.trained),
            # Shapes rest on the first two, and the loss checks the last.
            *(self.far_low, self.far_high, self.negative_weight),
            # The classes of the training are weights of the network.
            self.dataset if self.loss in COSINE_LOSSES else "",
        )


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a job."""

    opis: float
    epsilon_opis: float
    recall_at_1: float
    map_at_r: float
    nearest: float
    farthest: float
    seconds: float

    @property
    def measures(self) -> dict[str, float]:
        """As in the record of a study's run."""
        return dataclasses.asdict(self)

    @property
    def calibration_range(self) -> tuple[float, float]:
        """As in the record of a study's run."""
        return self.nearest, self.farthest


Found = dict[Job, Result]


def read(path: pathlib.Path) -> Found:
    """Read results."""
    found = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            job, result = (
                kind(
                    **{
                        field.name: field.type(row[field.name])
                        for field in dataclasses.fields(kind)
                        if row.get(field.name)
                    }
                )
                for kind in (Job, Result)
            )
            found[job] = result
    return found


def write(path: pathlib.Path, found: Found) -> None:
    """Write results."""
    text = io.StringIO()
    names = [field.name for kind in (Job, Result) for field in dataclasses.fields(kind)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for job, result in found.items():
        cells = [
            ""
            if getattr(job, field.name) == field.default
            else getattr(job, field.name)
            for field in dataclasses.fields(job)
        ]
        writer.writerow([*cells, *(f"{x:.6g}" for x in dataclasses.astuple(result))])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


# ------------------------------------------------------------------------------ report

# Changes of the logarithm of OPIS and of R@1 in points, by cell and seed.
Changes = dict[str, dict[int, tuple[float, float]]]


def changes(
    found: Found, is_shown: Callable[[Job], bool], is_robustness: bool = False
) -> dict[str, Changes]:
    """What TCM changes, by what brings it in and by how that is trained.

    Args:
        found: Results.
        is_shown: Whether a job is asked for.
        is_robustness: Whether those are meant that are trained in another way than the
            study does.

    Returns:
        Of each cell the seeds that all cells have.
    """
    tables: dict[str, Changes] = {}
    for job, after in found.items():
        before = found.get(job.plain)
        if job.arm == "none" or before is None or not is_shown(job):
            continue
        if bool(job.setting) == is_robustness:
            words = [job.setting, *["held-out"] * job.held_out] if is_robustness else []
            cells = tables.setdefault(", ".join([*words, job.label]), {})
            cells.setdefault(job.cell, {})[job.seed] = (
                math.log(after.opis / before.opis),
                100 * (after.recall_at_1 - before.recall_at_1),
            )
    for cells in tables.values():
        seeds = set.intersection(*map(set, cells.values()))
        for cell, by_seed in cells.items():
            cells[cell] = {seed: by_seed[seed] for seed in sorted(seeds)}
    return {
        name: cells for name, cells in sorted(tables.items()) if all(cells.values())
    }


def written(by_seed: np.ndarray) -> list[str]:
    """Write mean changes of OPIS and of R@1, with 95% intervals over seeds.

    Args:
        by_seed: Both changes, shape `(seeds, 2)`.
    """
    cells = []
    opis, recall = (mean_estimate(list(values)) for values in by_seed.T)
    for estimate, form in (opis.map(math.expm1), "+.1%"), (recall, "+.2f"):
        text = f"{estimate.value:{form}}"
        if estimate.interval is not None:
            low, high = estimate.interval
            text += f" [{low:{form}}, {high:{form}}]"
        cells.append(text)
    return cells


def summary_table(tables: Mapping[str, Changes]) -> str:
    """A line for each way to bring TCM in."""
    rows = []
    for name, cells in tables.items():
        values = np.array([list(by_seed.values()) for by_seed in cells.values()])
        logs, points = values.mean(1).T
        names = list(cells)
        opis, recall = written(values.mean(0))
        rows.append(
            (
                name,
                f"{len(names)}, {values.shape[1]}",
                opis,
                str((logs < 0).sum()),
                f"{math.expm1(logs.max()):+.1%} ({names[logs.argmax()]})",
                recall,
                str((points < -TOLERATED).sum()),
                f"{points.min():+.2f} ({names[points.argmin()]})",
            )
        )
    lower = f"worse by > {TOLERATED} in"
    header = ("", "cells, seeds", "OPIS", "lower in", "highest", "R@1", lower, "lowest")
    return harness.markdown_table(header, rows)


def cell_table(found: Found, tables: Mapping[str, Changes]) -> str:
    """A line for each cell on the test classes."""
    plain: dict[str, list[tuple[float, float]]] = {}
    for job, result in found.items():
        if job.arm == "none" and not job.setting and not job.held_out:
            values = math.log(result.opis), result.recall_at_1
            plain.setdefault(job.cell, []).append(values)
    rows = []
    for cell in sorted({cell for cells in tables.values() for cell in cells}):
        log, recall = np.mean(plain[cell], axis=0)
        row = [cell, f"{1000 * math.exp(log):.2f}", f"{100 * recall:.2f}"]
        for cells in tables.values():
            by_seed = cells.get(cell)
            row += written(np.array(list(by_seed.values()))) if by_seed else ["-", "-"]
        rows.append(row)
    names = [f"{name}: {what}" for name in tables for what in ("OPIS", "R@1")]
    header = ("data set, network, base loss", "OPIS (10⁻³) without", "R@1 (%)", *names)
    return harness.markdown_table(header, rows)


def report(found: Found) -> str:
    """Tables of all that was found, in Markdown."""

    def select(
        is_held_out: bool, is_of_the_study: bool, has_rules: bool = True
    ) -> dict[str, Changes]:
        return changes(
            found,
            lambda job: (
                job.held_out == is_held_out
                and (job.loss in GRID.losses) == is_of_the_study
                and (has_rules or not job.rule)
            ),
        )

    sections = {
        "Comparison on the test classes": [
            summary_table(select(False, True)),
            cell_table(found, select(False, True, has_rules=False)),
        ],
        "Constants, on held-out training classes": [summary_table(select(True, True))],
        "Other base losses, on the test classes": [
            summary_table(select(False, False)),
            cell_table(found, select(False, False, has_rules=False)),
        ],
        "Other base losses, on held-out training classes": [
            summary_table(select(True, False))
        ],
        "Robustness": [summary_table(changes(found, lambda job: True, True))],
    }
    return "\n\n".join(
        text for title, tables in sections.items() for text in (f"## {title}", *tables)
    )
