"""The reference values that come with the package."""

import dataclasses
import importlib.resources
import json
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """Inputs, and what comes of them by definition.

    Attributes:
        name: Its name.
        description: What it tests.
        kind: `"evaluation"`, for `keras_tcm.evaluate_embeddings`, or `"tcm"`, for
            `keras_tcm.TCM`.
        inputs: Arrays by the names that `keras_tcm.evaluate_embeddings` has for them:
            `"embeddings"`, float64 of shape `(n, d)` and of any norm; `"labels"`, int64
            of shape `(n,)`; and with a gallery `"gallery_embeddings"`, `(m, d)`, and
            `"gallery_labels"`, `(m,)`.
        options: Options by the names that `keras_tcm.evaluate_embeddings` and
            `keras_tcm.TCM` have for them: all that matter, the defaults too.
        expected: Quantities by name, float64 arrays of any shape. Unresolved operating
            points are NaN.
        tolerances: How far from each of these a result may be: absolute differences.
    """

    name: str
    description: str
    kind: str
    inputs: dict[str, np.ndarray]
    options: dict[str, Any]
    expected: dict[str, np.ndarray]
    tolerances: dict[str, float]


def cases() -> tuple[Case, ...]:
    """Read the reference values.

    They are those of `cases.json` in this folder, made by `definition.py` beside it,
    with 15 significant digits.

    Example:

    >>> case = keras_tcm.reference.cases()[0]
    >>> case.name, case.inputs["embeddings"].shape
    ('by hand', (4, 2))
    >>> result = keras_tcm.evaluate_embeddings(**case.inputs, **case.options)
    >>> result.opis, float(case.expected["opis"])  # 9 / 196
    (0.0459183673, 0.0459183673)
    """
    path = importlib.resources.files("keras_tcm.reference") / "cases.json"
    file = json.loads(path.read_text("utf-8"))
    return tuple(
        Case(
            name=case["name"],
            description=case["description"],
            kind=case["kind"],
            inputs={name: np.array(value) for name, value in case["inputs"].items()},
            options=case["options"],
            expected={
                # `null` becomes NaN.
                name: np.array(value, np.float64)
                for name, value in case["expected"].items()
            },
            tolerances={name: file["tolerances"][name] for name in case["expected"]},
        )
        for case in file["cases"]
    )
