"""OPIS, TCM and the rates they rest on: the definition, in NumPy and float64.

It imports nothing but NumPy, leaves out whatever makes a program fast, and checks no
arguments. `python definition.py cases.json` compares it with a file of such values.
"""

import json
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
DECIMALS = 12  # Distances that are equal on paper are equal after rounding.


class Pairs(NamedTuple):
    """All pairs, each once: two samples, or a query and a sample of the gallery."""

    distance: Array  # (pairs,)
    positive: Array  # (pairs,): whether both ends have the same label
    classes: Array  # (pairs, 2): labels of the ends; (pairs, 1) with a gallery: queries


def unit_vectors(x: Any) -> Array:
    """Vectors of length 1, from vectors of any length but 0."""
    return np.asarray(x, float) / np.linalg.norm(x, axis=1, keepdims=True)


def distances(x: Any, gallery: Any = None, distance: str = "cosine") -> Array:
    """Distance of each query to each sample of the gallery, `(n, m)`.

    Without a gallery that is each sample to each, and infinite to itself.
    """
    s = unit_vectors(x) @ unit_vectors(x if gallery is None else gallery).T
    d = np.round(1 - s, DECIMALS)
    d = d if distance == "cosine" else np.round(np.sqrt(2 * d), DECIMALS)
    return np.where(np.eye(len(d)) == 1, np.inf, d) if gallery is None else d


def pairs_of(d: Array, labels: Any, gallery_labels: Any = None) -> Pairs:
    """The pairs among distances."""
    if gallery_labels is None:
        i, j = np.triu_indices(len(d), 1)
        first, second = np.asarray(labels)[i], np.asarray(labels)[j]
        return Pairs(d[i, j], first == second, np.stack([first, second], axis=1))
    i, j = np.indices(d.shape).reshape(2, -1)
    first, second = np.asarray(labels)[i], np.asarray(gallery_labels)[j]
    return Pairs(d[i, j], first == second, first[:, None])


def pairs_of_class(pairs: Pairs, label: Any) -> Pairs:
    """The pairs with an end in a class; with a gallery, the query's end."""
    return Pairs(*(field[(pairs.classes == label).any(axis=1)] for field in pairs))


def classes_of(pairs: Pairs) -> list[Any]:
    """The classes with a positive and a negative pair: the others are left out."""
    labels = np.unique(pairs.classes).tolist()
    return [c for c in labels if np.ptp(pairs_of_class(pairs, c).positive * 1) == 1]


def error_rates(pairs: Pairs, thresholds: Any) -> tuple[Array, Array]:
    """FAR and FRR at each threshold, `(k,)`; it accepts distances up to itself."""
    accepted = pairs.distance[:, None] <= np.round(thresholds, DECIMALS)
    far = accepted[~pairs.positive].mean(axis=0)
    return far, 1 - accepted[pairs.positive].mean(axis=0)


def class_error_rates(pairs: Pairs, thresholds: Any) -> tuple[Array, Array]:
    """FAR and FRR of each class at each threshold, `(c, k)`."""
    classes = [pairs_of_class(pairs, c) for c in classes_of(pairs)]
    far, frr = zip(*(error_rates(one, thresholds) for one in classes), strict=True)
    return np.array(far), np.array(frr)


def calibration_range(
    pairs: Pairs, far_range: Any = None, frr_range: Any = None
) -> Any:
    """The distances with these global FARs, or these global FRRs: quantiles."""
    if frr_range is None:
        d, shares = pairs.distance[~pairs.positive], far_range
    else:
        d, shares = pairs.distance[pairs.positive], (1 - frr_range[1], 1 - frr_range[0])
    return np.quantile(d, shares, method="linear")


def utility(pairs: Pairs, thresholds: Any, beta: float = 1.0) -> Array:
    """F-beta of specificity and sensitivity of each class, `(c, k)`; 0 if both are."""
    far, frr = class_error_rates(pairs, thresholds)
    specificity, sensitivity = 1 - far, 1 - frr
    divisor = beta**2 * specificity + sensitivity
    return (1 + beta**2) * specificity * sensitivity / np.where(divisor > 0, divisor, 1)


def mean_over_range(values: Array, thresholds: Any) -> Array:
    """Integral over the thresholds by the trapezoid rule, over the width."""
    areas = (values[..., 1:] + values[..., :-1]) / 2 * np.diff(thresholds)
    return areas.sum(axis=-1) / (thresholds[-1] - thresholds[0])


def opis_per_class(curves: Array, thresholds: Any) -> Array:
    """What each class adds to OPIS, which is the mean, `(c,)`."""
    return mean_over_range((curves - curves.mean(axis=0)) ** 2, thresholds)


def epsilon_opis(curves: Array, thresholds: Any, epsilon: float = 0.1) -> float:
    """The same for the gap between the worst classes and the others."""
    order = np.argsort(mean_over_range(curves, thresholds), kind="stable")
    n = max(1, int(epsilon * len(curves) + 1e-9))
    gap = curves[order[:n]].mean(axis=0) - curves[order[n:]].mean(axis=0)
    return float(mean_over_range(gap**2, thresholds))


def equal_error_rate(pairs: Pairs) -> float:
    """(FAR + FRR) / 2 at the least distance of a pair at which they are closest."""
    far, frr = error_rates(pairs, np.unique(pairs.distance))
    nearest = np.argmin(np.round(np.abs(far - frr), DECIMALS))
    return float((far + frr)[nearest] / 2)


def operating_threshold(pairs: Pairs, far_target: float) -> float:
    """The largest distance with a FAR up to the target; NaN if pairs are too few."""
    d = np.sort(pairs.distance[~pairs.positive])
    allowed = int(far_target * len(d) + 1e-9)
    if allowed == len(d):
        return 2.0
    if allowed == 0 or d[allowed] == 0:
        return np.nan
    return float(d[allowed] - 10.0**-DECIMALS)


def ranked(d: Array, labels: Any, gallery_labels: Any = None) -> list[Array]:
    """Which samples are positive, nearest first, for each query that has a positive.

    A negative comes before a positive that is as near.
    """
    others = np.asarray(labels if gallery_labels is None else gallery_labels)
    positive = (np.asarray(labels)[:, None] == others) & np.isfinite(d)
    order = np.lexsort((positive, d), axis=1)
    return [row for row in np.take_along_axis(positive, order, axis=1) if row.any()]


def recall_at_k(rows: list[Array], k: int) -> float:
    """Share of these queries with a positive among their k nearest."""
    return float(np.mean([row[:k].any() for row in rows]))


def map_at_r(rows: list[Array]) -> float:
    """Mean over these queries of average precision at R, their number of positives."""
    tops = [row[: row.sum()] for row in rows]
    shares = [np.cumsum(top) / np.arange(1, len(top) + 1) for top in tops]
    return float(
        np.mean([(top * s).mean() for top, s in zip(tops, shares, strict=True)])
    )


def evaluate(
    embeddings: Any,
    labels: Any,
    gallery_embeddings: Any = None,
    gallery_labels: Any = None,
    **options: Any,
) -> dict[str, Any]:
    """Every quantity of an evaluation, by name."""
    d = distances(embeddings, gallery_embeddings, options["distance"])
    pairs = pairs_of(d, labels, gallery_labels)
    low, high = options.get("calibration_range") or calibration_range(
        pairs, options.get("far_range"), options.get("frr_range")
    )
    thresholds = np.linspace(low, high, options["num_thresholds"])
    curves = utility(pairs, thresholds, options["beta"])
    per_class = opis_per_class(curves, thresholds)
    points = [operating_threshold(pairs, target) for target in options["far_targets"]]
    unresolved = np.where(np.isnan(points), np.nan, 0)
    rows = ranked(d, labels, gallery_labels)
    names = "far", "frr", "per_class_far", "per_class_frr"
    at = options["at_thresholds"]
    rates = *error_rates(pairs, at), *class_error_rates(pairs, at)
    operating = *error_rates(pairs, points), *class_error_rates(pairs, points)
    return {
        "classes": classes_of(pairs),
        "calibration_range": [low, high],
        "utility": curves,
        "opis_per_class": per_class,
        "opis": per_class.mean(),
        "epsilon_opis": epsilon_opis(curves, thresholds, options["epsilon"]),
        "eer": equal_error_rate(pairs),
        "recall": [recall_at_k(rows, k) for k in options["recall_at"]],
        "map_at_r": map_at_r(rows),
        **dict(zip(names, rates, strict=True)),
        "operating_threshold": points,
        **{
            f"operating_{n}": r + unresolved
            for n, r in zip(names, operating, strict=True)
        },
    }


def tcm(
    embeddings: Any,
    labels: Any,
    positive_margin: float = 0.9,
    negative_margin: float = 0.5,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
) -> dict[str, Any]:
    """The TCM loss and its gradient, `(n, d)`."""
    u = unit_vectors(embeddings)
    s = u @ u.T
    positive = np.equal.outer(labels, labels) & ~np.eye(len(s), dtype=bool)
    negative = np.not_equal.outer(labels, labels)
    value, slope = 0.0, np.zeros_like(s)
    for hard, excess, sign, weight in (
        (positive & (s <= positive_margin), positive_margin - s, -1, positive_weight),
        (negative & (s >= negative_margin), s - negative_margin, 1, negative_weight),
    ):
        if hard.any():
            value += weight * excess[hard].mean()
            slope += sign * weight * hard / hard.sum()
    # Both (i, j) and (j, i) pull at i; along u nothing changes, for lengths are 1.
    pull = 2 * slope @ u
    across = pull - (pull * u).sum(axis=1, keepdims=True) * u
    return {
        "loss": value,
        "gradient": across / np.linalg.norm(embeddings, axis=1, keepdims=True),
    }


def main() -> None:
    """Compare with the file that is named, or with `cases.json` beside this one."""
    path = sys.argv[1] if sys.argv[1:] else pathlib.Path(__file__).parent / "cases.json"
    file = json.loads(pathlib.Path(path).read_text("utf-8"))
    functions: dict[str, Any] = {"evaluation": evaluate, "tcm": tcm}
    for case in file["cases"]:
        computed = functions[case["kind"]](**case["inputs"], **case["options"])
        for name, expected in case["expected"].items():
            np.testing.assert_allclose(
                np.array(computed[name], float),
                np.array(expected, float),
                rtol=0,
                atol=file["tolerances"][name],
                err_msg=f"{name} of {case['name']}",
            )
        print(f"{case['name']}: {len(case['expected'])} quantities agree")


if __name__ == "__main__":
    main()
