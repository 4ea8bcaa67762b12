"""Makes the reference values: `keras_tcm/reference/cases.json`.

    python benchmarks/reference_cases.py

The inputs are a few classes each, drawn or made by hand; the expected values are what
`keras_tcm/reference/definition.py` computes. Of the seeds of a drawn case, the first is
taken whose distances lie apart: float32 then decides as float64 does.
"""

import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_tcm.reference import definition

PATH = pathlib.Path(definition.__file__).with_name("cases.json")
# Of all distances of pairs, and of the thresholds, from each other.
ROOM = 1e-5
# Embeddings are multiples of 1 / 64: their decimals are exact.
GRID = 64

# By how much a result may differ. Rates are ratios of counts, and the OPIS of a range
# does not depend on its width: rounding in float32 moves distances alone.
RATE, DISTANCE, LOSS = 1e-9, 1e-5, 1e-6
TOLERANCES = {
    "classes": 0,
    "calibration_range": DISTANCE,
    "utility": RATE,
    "opis_per_class": RATE,
    "opis": RATE,
    "epsilon_opis": RATE,
    "eer": RATE,
    "recall": RATE,
    "map_at_r": RATE,
    "far": RATE,
    "frr": RATE,
    "per_class_far": RATE,
    "per_class_frr": RATE,
    "operating_threshold": DISTANCE,
    "operating_far": RATE,
    "operating_frr": RATE,
    "operating_per_class_far": RATE,
    "operating_per_class_frr": RATE,
    "loss": LOSS,
    "gradient": LOSS,
}

# The defaults of `evaluate_embeddings` and of `TCM`, and thresholds to look at.
EVALUATION = {
    "far_range": [0.01, 0.1],
    "beta": 1.0,
    "epsilon": 0.1,
    "distance": "cosine",
    "num_thresholds": 101,
    "recall_at": [1, 2, 4, 8],
    "far_targets": [0.001, 0.01, 0.1],
    "at_thresholds": [0.25, 0.5],
}
TCM = {
    "positive_margin": 0.9,
    "negative_margin": 0.5,
    "positive_weight": 1.0,
    "negative_weight": 1.0,
}
SIZES = (6, 5, 2, 4, 7, 3, 5, 3)


def draw(sizes: Sequence[int], seed: int, spread: float = 1.0) -> dict[str, Any]:
    """Noisy classes of these sizes, each with a spread of its own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    spreads = spread * rng.uniform(0.2, 0.8, len(sizes))
    x = rng.normal(size=(len(sizes), 4))[labels]
    x = x + spreads[labels, None] * rng.normal(size=(len(labels), 4))
    order = rng.permutation(len(labels))
    x = np.round(x[order] * GRID) / GRID
    return {"embeddings": x.tolist(), "labels": labels[order].tolist()}


def draw_with_gallery(sizes: Sequence[int], seed: int) -> dict[str, Any]:
    """Such classes, every other sample of which is in the gallery.

    The first class is not in it, and the last one has no query.
    """
    drawn = draw(sizes, seed)
    x, y = np.array(drawn["embeddings"]), np.array(drawn["labels"])
    query = np.arange(len(y)) % 2 == 0
    query = (query | (y == 0)) & (y != len(sizes) - 1)
    return {
        "embeddings": x[query].tolist(),
        "labels": y[query].tolist(),
        "gallery_embeddings": x[~query].tolist(),
        "gallery_labels": y[~query].tolist(),
    }


def compared(case: dict[str, Any]) -> np.ndarray:
    """All that is compared in a case, as cosine distances, increasing."""
    inputs, options = case["inputs"], case["options"]
    d = definition.distances(inputs["embeddings"], inputs.get("gallery_embeddings"))
    pairs = definition.pairs_of(d, inputs["labels"], inputs.get("gallery_labels"))
    if case["kind"] == "tcm":
        margins = options["positive_margin"], options["negative_margin"]
        return np.sort([*pairs.distance, *(1 - np.array(margins))])
    low, high = definition.evaluate(**inputs, **options)["calibration_range"]
    grid = np.linspace(low, high, options["num_thresholds"])
    cuts = np.array([*grid, *options["at_thresholds"]])
    cuts = cuts**2 / 2 if options["distance"] == "euclidean" else cuts
    return np.sort([*pairs.distance, *cuts])


def case_of(
    name: str, description: str, inputs: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """An evaluation; an option that is `None` is left out."""
    options = {k: v for k, v in (EVALUATION | options).items() if v is not None}
    return {
        "name": name,
        "description": description,
        "kind": "evaluation",
        "inputs": inputs,
        "options": options,
    }


def tcm_case_of(
    name: str, description: str, inputs: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """A value and a gradient of TCM."""
    return case_of(name, description, inputs) | {
        "kind": "tcm",
        "options": TCM | options,
    }


def first_apart(make: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
    """A case of the first seed for which all that is compared lies apart.

    Args:
        make: `case_of` or `tcm_case_of`.
        *arguments: Its name, its description, and a function of a seed: the inputs.
        **options: Its options.
    """
    name, description, inputs = arguments
    for seed in range(1000):
        case = make(name, description, inputs(seed), **options)
        if np.diff(compared(case)).min() > ROOM:
            return case
    raise ValueError(f"no seed of {name!r} has distances that lie apart")


def evaluation_cases() -> list[dict[str, Any]]:
    """Cases of `evaluate_embeddings`, the one of the page first."""
    return [
        case_of(
            "by hand",
            "Four vectors whose cosines are exact; one threshold, 0.4, is a distance.",
            {
                "embeddings": [[1, 0], [24, 7], [3, 4], [-3, 4]],
                "labels": [0, 0, 1, 1],
            },
            far_range=[0.25, 0.75],
            num_thresholds=3,
            recall_at=[1, 3],
            far_targets=[0.1, 0.25, 0.5],
            at_thresholds=[0.4],
        ),
        first_apart(
            case_of,
            "defaults",
            "The default options; classes of unequal sizes.",
            lambda seed: draw(SIZES, seed),
        ),
        first_apart(
            case_of,
            "other range, beta and epsilon",
            "FAR 5% to 30%, sensitivity weighs more, 3.5 classes are worst: 3.",
            lambda seed: draw((4, 3, 6, 2, 5, 4, 3), seed),
            far_range=[0.05, 0.3],
            beta=2.0,
            epsilon=0.5,
            num_thresholds=21,
        ),
        first_apart(
            case_of,
            "beta below 1",
            "Specificity weighs more; a third of the classes, 2 of 6, are worst.",
            lambda seed: draw((4, 3, 6, 2, 5, 4), seed, 1.5),
            beta=0.5,
            epsilon=0.34,
            num_thresholds=21,
        ),
        first_apart(
            case_of,
            "euclidean",
            "Distances sqrt(2 - 2 s), thresholds evenly spaced in these.",
            lambda seed: draw((5, 4, 3, 6, 2, 4), seed),
            distance="euclidean",
            num_thresholds=21,
            at_thresholds=[0.75, 1.0],
        ),
        first_apart(
            case_of,
            "range of FRR",
            "The calibration range is where the global FRR goes from 40% to 10%.",
            lambda seed: draw((5, 4, 3, 6, 2, 5), seed),
            far_range=None,
            frr_range=[0.1, 0.4],
            num_thresholds=21,
        ),
        first_apart(
            case_of,
            "given range",
            "The calibration range is given as distances.",
            lambda seed: draw((3, 5, 4, 2, 4), seed),
            far_range=None,
            calibration_range=[0.125, 0.625],
            num_thresholds=21,
            at_thresholds=[0.26, 0.51],
        ),
        first_apart(
            case_of,
            "classes of one sample",
            "Left out of averages over classes and of R@k and mAP@R; negatives still.",
            lambda seed: draw((5, 1, 4, 1, 6, 3, 1), seed),
            num_thresholds=21,
        ),
        first_apart(
            case_of,
            "gallery",
            "Pairs are (query, gallery) pairs, classes those of the queries. One of "
            "these is not in the gallery, and one class of it has no query.",
            lambda seed: draw_with_gallery((3, 6, 4, 8, 5, 7, 4), seed),
            num_thresholds=21,
        ),
        case_of(
            "ties",
            "Equal vectors in a class and across classes, thresholds that are "
            "distances, and a negative as near as a positive.",
            {
                "embeddings": [
                    [1, 0],
                    [1, 0],
                    [4, 3],
                    [4, 3],
                    [0, 1],
                    [0, -1],
                    [4, -3],
                ],
                "labels": [0, 0, 0, 1, 1, 2, 2],
            },
            far_range=None,
            calibration_range=[0.2, 1.0],
            num_thresholds=5,
            recall_at=[1, 2, 3],
            far_targets=[0.05, 0.1, 0.25, 0.5, 1.0],
            at_thresholds=[0.0, 0.2, 1.0],
        ),
        case_of(
            "no utility",
            "At the largest threshold all pairs of a class are on the wrong side: its "
            "utility is 0.",
            {
                "embeddings": [[1, 0], [-1, 0], [0, 1], [3, 4]],
                "labels": [0, 0, 1, 1],
            },
            far_range=None,
            calibration_range=[0.3, 1.7],
            num_thresholds=8,
            recall_at=[1],
            far_targets=[0.25],
            at_thresholds=[1.7],
        ),
    ]


def tcm_cases() -> list[dict[str, Any]]:
    """Cases of TCM."""
    sizes = 3, 4, 2, 3

    def apart(seed: int) -> dict[str, Any]:
        """Tight classes on three axes."""
        drawn = draw((3, 3, 3), seed, 1.5)
        x = 8 * np.eye(4)[drawn["labels"]] + drawn["embeddings"]
        return drawn | {"embeddings": x.tolist()}

    return [
        tcm_case_of(
            "TCM by hand",
            "A positive pair at 0.8 and a negative one at 0.6; the other is not hard.",
            {"embeddings": [[1, 0], [4, 3], [0, 1]], "labels": [0, 0, 1]},
        ),
        first_apart(
            tcm_case_of,
            "TCM, defaults",
            "The default margins and weights.",
            lambda seed: draw(sizes, seed),
        ),
        first_apart(
            tcm_case_of,
            "TCM, other margins and weights",
            "Margins 0.7 and -0.1, weights 0.5 and 2.",
            lambda seed: draw(sizes, seed),
            positive_margin=0.7,
            negative_margin=-0.1,
            positive_weight=0.5,
            negative_weight=2.0,
        ),
        tcm_case_of(
            "TCM, on the margin",
            "A negative pair at the margin itself is hard: it adds 0, and counts.",
            {
                "embeddings": [[1, 0, 0, 0], [1, 1, 1, 1], [3, 4, 0, 0]],
                "labels": [0, 1, 1],
            },
        ),
        first_apart(
            tcm_case_of,
            "TCM, no hard positive pair",
            "The positive term is 0.",
            apart,
            negative_margin=-0.2,
        ),
        first_apart(
            tcm_case_of,
            "TCM, no hard negative pair",
            "The negative term is 0.",
            apart,
            positive_margin=0.99,
        ),
        first_apart(
            tcm_case_of,
            "TCM, no hard pair",
            "The loss and its gradient are 0.",
            apart,
        ),
    ]


def plain(value: Any) -> Any:
    """What JSON holds, with 15 significant digits; NaN becomes `null`."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, str | int):
        return value
    if np.ndim(value) > 0:
        return [plain(one) for one in value]
    if isinstance(value, np.integer):
        return int(value)
    return None if np.isnan(value) else float(f"{value:.15g}")


def reference_file() -> dict[str, Any]:
    """Everything that the file holds."""
    cases = [*evaluation_cases(), *tcm_cases()]
    compute = {"evaluation": definition.evaluate, "tcm": definition.tcm}
    for case in cases:
        expected = compute[case["kind"]](**case["inputs"], **case["options"])
        case["expected"] = expected
    return plain(
        {
            "format": "keras_tcm.reference",
            "version": 1,
            "tolerances": TOLERANCES,
            "cases": cases,
        }
    )


def main() -> None:
    """Write the file, each list of numbers in a line."""
    text = json.dumps(reference_file(), indent=1)
    text = re.sub(r"\[[^][{}]*\]", lambda match: " ".join(match[0].split()), text)
    PATH.write_text(text.replace("[ ", "[").replace(" ]", "]") + "\n", "utf-8")
    print(f"{PATH}: {len(text) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
