"""Write the measured budgets and figures into docs/benchmarks.md.

Reads the results of the other scripts and writes the part of the document between its
two markers, and the figures beside it.

    python benchmarks/budgets.py
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness import BACKENDS, Measurement, Results, markdown_table

BEGIN = "<!-- begin: written by benchmarks/budgets.py -->"
END = "<!-- end -->"
HERE = pathlib.Path(__file__).parent
TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
GIB = 2.0**30

# From the colour-blind safe palette of Okabe and Ito.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "0.45"


class Run:
    """The results of all topics on one backend.

    Args:
        results: By topic.
    """

    def __init__(self, results: Mapping[str, Results]) -> None:
        self.results = results

    def find(
        self, topic: str, what: str, **parameters: int | str
    ) -> Measurement | None:
        """A measurement, if there is one."""
        results = self.results.get(topic)
        return None if results is None else results.find(what, **parameters)

    def seconds(self, topic: str, what: str, **parameters: int | str) -> float | None:
        """The median seconds of a measurement, if there is one."""
        found = self.find(topic, what, **parameters)
        return None if found is None else found.median

    def gibibytes(self, topic: str, what: str, **parameters: int | str) -> float | None:
        """The peak memory of a measurement, if there is one."""
        found = self.find(topic, what, **parameters)
        if found is None or found.peak_bytes is None:
            return None
        return found.peak_bytes / GIB

    def rate(self, topic: str) -> float | None:
        """Floating-point operations per second: the faster product of two matrices."""
        found = [
            self.find(topic, "matrix product", when=when)
            for when in ("before", "after")
        ]
        rates = [
            one.flop / one.median for one in found if one and one.flop and one.median
        ]
        return max(rates, default=None)


@dataclasses.dataclass(frozen=True)
class Budget:
    """One line of the table.

    Attributes:
        what: What is measured.
        against: What it is compared with.
        measured: Gets the figure from a run.
        bar: What it must reach.
        goal: What it should reach.
        unit: What follows the figures.
        is_speedup: Whether higher is better.
    """

    what: str
    against: str
    measured: Callable[[Run], float | None]
    bar: float
    goal: float
    unit: str = "x"
    is_speedup: bool = False

    def verdict(self, value: float) -> str:
        """The figure, and whether it reaches the goal or the bar."""
        sign = -1.0 if self.is_speedup else 1.0
        reached = "misses"
        if sign * value <= sign * self.bar:
            reached = "bar"
        if sign * value <= sign * self.goal:
            reached = "goal"
        return f"{_figure(value)}{self.unit} ({reached})"

    def limit(self, which: str) -> str:
        """The bar or the goal as text."""
        return f"{_figure(getattr(self, which))}{self.unit}"


def _figure(value: float) -> str:
    """Three digits or so, and no more than two decimals from 0.1 on."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _ratio(one: float | None, other: float | None, factor: float = 1.0) -> float | None:
    return None if one is None or not other else factor * one / other


def _beside(name: str) -> Callable[[Run], float | None]:
    return lambda run: _ratio(
        run.seconds("loss", f"{name} + TCM", batch=1024),
        run.seconds("loss", name, batch=1024),
    )


def _of_a_step(what: str) -> Callable[[Run], float | None]:
    return lambda run: _ratio(
        run.seconds("training_step", what), run.seconds("training_step", "step")
    )


def _points(
    run: Run, topic: str, what: str, key: str, **parameters: int | str
) -> Iterator[tuple[int, Measurement]]:
    results = run.results.get(topic)
    for one in () if results is None else results.measurements:
        if one.what == what and parameters.items() <= one.parameters.items():
            yield int(one.parameters[key]), one


def _worst_ratio(name: str) -> Callable[[Run], float | None]:
    """The largest ratio of all batches of `bench_autodiff.py`."""
    return lambda run: max(
        (one.values[name] for _, one in _points(run, "autodiff", "ratios", "batch")),
        default=None,
    )


def _share_of_the_metric(run: Run) -> float | None:
    ratio = _ratio(
        run.seconds("metric", "step with metric", memory=8192),
        run.seconds("metric", "step", memory=8192),
    )
    return None if ratio is None else 100.0 * (ratio - 1.0)


BUDGETS = (
    Budget(
        "TCM, batch 1,024",
        "pytorch-metric-learning",
        lambda run: _ratio(
            run.seconds("loss", "pytorch-metric-learning", batch=1024),
            run.seconds("loss", "TCM", batch=1024),
        ),
        bar=1000,
        goal=3000,
        unit="x faster",
        is_speedup=True,
    ),
    Budget(
        "TCM, batch 128 to 4,096",
        "plain automatic differentiation",
        _worst_ratio("TCM / plain"),
        bar=0.9,
        goal=0.67,
    ),
    Budget(
        "MultiSimilarity + TCM, batch 128 to 4,096",
        "plain automatic differentiation",
        _worst_ratio("both / plain"),
        bar=0.9,
        goal=0.67,
    ),
    Budget(
        "the same",
        "MultiSimilarity",
        _worst_ratio("both / MultiSimilarity"),
        bar=1.15,
        goal=1.05,
    ),
    Budget(
        "AutoTCM of MultiSimilarity, batch 128 to 4,096",
        "MultiSimilarity",
        _worst_ratio("AutoTCM / MultiSimilarity"),
        bar=1.15,
        goal=1.05,
    ),
    Budget(
        "TCM, batch 16,384: peak memory",
        "its inputs",
        lambda run: run.gibibytes("loss", "TCM memory", batch=16384),
        bar=0.5,
        goal=0.25,
        unit=" GiB",
    ),
    *(
        Budget(f"{name} + TCM, batch 1,024", name, _beside(name), bar=1.15, goal=1.05)
        for name in ("SupervisedContrastive", "SmoothAP")
    ),
    *(
        Budget(
            f"ResNet-50 training step with {name}", "the same without", ratio, 1.02, 1.0
        )
        for name, ratio in (
            ("TCM", _of_a_step("step + TCM")),
            ("AutoTCM", _of_a_step("step with AutoTCM")),
        )
    ),
    Budget(
        "`evaluate_embeddings`, 20,000 samples",
        "faiss, 2 neighbours",
        lambda run: _ratio(
            run.seconds("evaluation", "evaluation", n=20000, d=512),
            run.seconds("evaluation", "faiss", n=20000, d=512),
        ),
        bar=1.0,
        goal=0.6,
    ),
    Budget(
        "the same without Numba",
        "faiss, 2 neighbours",
        lambda run: _ratio(
            run.seconds("evaluation", "evaluation without Numba", n=20000, d=512),
            run.seconds("evaluation", "faiss", n=20000, d=512),
        ),
        bar=1.0,
        goal=0.6,
    ),
    Budget(
        "`choose_threshold`, 20,000 samples, FAR 0.1%",
        "`evaluate_embeddings`",
        lambda run: _ratio(
            run.seconds("evaluation", "choose_threshold", n=20000, d=512),
            run.seconds("evaluation", "evaluation", n=20000, d=512),
        ),
        bar=1.1,
        goal=1.0,
    ),
    Budget(
        "`Matcher.match`, 1,000 queries in 100,000",
        "faiss, range search",
        lambda run: _ratio(
            run.seconds("matcher", "match", n=100000),
            run.seconds("matcher", "range_search", n=100000),
        ),
        bar=1.2,
        goal=1.0,
    ),
    Budget(
        "`evaluate_embeddings`, 60,000 samples: peak memory",
        "its inputs",
        lambda run: run.gibibytes("evaluation", "evaluation memory", n=60000, d=512),
        bar=0.6,
        goal=0.25,
        unit=" GiB",
    ),
    Budget(
        "`OPIS` in a training step, 8,192 samples",
        "the step without it",
        _share_of_the_metric,
        bar=5,
        goal=1,
        unit="% more",
    ),
    Budget(
        "`import keras_tcm`",
        "`import keras`",
        lambda run: run.seconds("import", "import keras_tcm after keras"),
        bar=0.1,
        goal=0.02,
        unit=" s more",
    ),
)

# Name, topic, candidate and parameters of what has a least number of operations.
FLOORS: tuple[tuple[str, str, str, dict[str, int | str]], ...] = (
    *(
        (f"TCM, batch {batch:,}", "loss", "TCM", {"batch": batch})
        for batch in (1024, 4096, 16384)
    ),
    *(
        (
            f"`evaluate_embeddings`, {n:,} samples",
            "evaluation",
            "evaluation",
            {"n": n, "d": 512},
        )
        for n in (20000, 60000)
    ),
    (
        "`OPIS.result()`, 8,192 samples, once an epoch",
        "metric",
        "result of an epoch",
        {"memory": 8192},
    ),
)


def load(folder: pathlib.Path) -> dict[str, Run]:
    """Read all results of a folder, by backend."""
    topics: dict[str, dict[str, Results]] = {backend: {} for backend in BACKENDS}
    for path in sorted(folder.glob("*.json")):
        results = Results.load(path)
        topics[results.backend][results.topic] = results
    runs = {backend: Run(found) for backend, found in topics.items() if found}
    if not runs:
        raise SystemExit(f"There are no results in {folder}: run the benchmarks first.")
    return runs


def budget_table(runs: Mapping[str, Run]) -> str:
    """The budgets and what was measured on each backend."""
    rows = []
    for budget in BUDGETS:
        values = [budget.measured(run) for run in runs.values()]
        rows.append(
            [
                budget.what,
                budget.against,
                budget.limit("bar"),
                budget.limit("goal"),
                *("-" if value is None else budget.verdict(value) for value in values),
            ]
        )
    titles = (TITLES[backend] for backend in runs)
    return markdown_table(["what", "against", "bar", "goal", *titles], rows)


def floor_table(runs: Mapping[str, Run]) -> str:
    """How far what was measured is from what the machine could do."""
    rows = []
    for name, topic, what, parameters in FLOORS:
        for backend, run in runs.items():
            found, rate = run.find(topic, what, **parameters), run.rate(topic)
            if found is None or not found.flop or not found.median or not rate:
                continue
            rows.append(
                [
                    name,
                    TITLES[backend],
                    f"{found.flop / 1e9:.3g}",
                    f"{rate / 1e9:.0f}",
                    _duration(found.flop / rate),
                    _duration(found.median),
                    f"{found.spread:.0%}",
                    f"{_figure(found.median * rate / found.flop)}x",
                ]
            )
    header = "what|backend|GFLOP|GFLOP/s|floor|measured|spread|distance"
    return markdown_table(header.split("|"), rows)


def autodiff_table(runs: Mapping[str, Run]) -> str:
    """The losses over their plain formulas, and TCM beside its base, by batch."""
    titles = {
        "TCM / plain": "TCM / plain TCM",
        "both / plain": "MultiSimilarity + TCM / plain",
        "both / MultiSimilarity": "MultiSimilarity + TCM / MultiSimilarity",
        "AutoTCM / MultiSimilarity": "AutoTCM(MultiSimilarity) / MultiSimilarity",
    }
    rows = [
        [
            TITLES[backend],
            f"{batch:,}",
            *(f"{_figure(one.values[title])}x" for title in titles),
        ]
        for backend, run in runs.items()
        for batch, one in _points(run, "autodiff", "ratios", "batch")
    ]
    return markdown_table(["backend", "batch", *titles.values()], rows)


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def conditions(runs: Mapping[str, Run]) -> str:
    """Machine, versions and commands."""
    every = [results for run in runs.values() for results in run.results.values()]
    machines = {tuple(results.machine.items()): results.machine for results in every}
    versions = {k: v for results in every for k, v in results.versions.items()}
    lines = [
        "Machine: "
        + "; ".join(
            f"{one['processor']}, {one['cores']} cores, {one['memory']}, "
            f"{one['system']}, Python {one['python']}"
            for one in machines.values()
        )
        + ".",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) + ".",
    ]
    if any(results.is_quick for results in every):
        lines.append("**These are smoke runs (`--quick`) at sizes that mean nothing.**")
    return "\n\n".join(lines)


def sampled_tables(runs: Mapping[str, Run]) -> str:
    """Times of the sampled evaluation, and whether its standard errors hold."""
    times, scores = [], []
    for backend, run in runs.items():
        results = run.results.get("sampled")
        for one in () if results is None else results.measurements:
            if one.what == "sampled evaluation" and one.median:
                size, pairs = int(one.parameters["n"]), int(one.parameters["max_pairs"])
                error = one.values["opis_error"] / one.values["opis"]
                cells = [
                    f"{size:,}",
                    f"{pairs:,}",
                    _duration(one.median),
                    f"{error:.1%}",
                ]
                times.append([TITLES[backend], *cells])
            if one.what == "coverage":
                keys = "relative_error", "coverage", "bias", "stated_over_spread"
                styles = ".2%", ".0%", ".2f", ".2f"
                scores.append(
                    [
                        str(one.parameters["score"]),
                        TITLES[backend],
                        *(
                            f"{one.values[key]:{style}}" if key in one.values else "-"
                            for key, style in zip(keys, styles, strict=True)
                        ),
                    ]
                )
    scores.sort(key=lambda row: row[0])
    header = "backend|samples|pairs|time|standard error of OPIS"
    other = "score|backend|standard error|coverage|bias|stated / actual error"
    return (
        markdown_table(header.split("|"), times)
        + "\n\n"
        + markdown_table(other.split("|"), scores)
    )


# ------------------------------------------------------------------------------ figures


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line of a figure.

    Attributes:
        label: What the legend says.
        points: Size and value of each point.
        style: How it is drawn.
    """

    label: str
    points: list[tuple[int, float]]
    style: dict[str, Any]


def _seconds_curve(
    label: str,
    points: Iterator[tuple[int, Measurement]],
    **style: Any,
) -> Curve:
    known = [(size, one.median) for size, one in points if one.median]
    return Curve(label, known, {"marker": "o", "markersize": 4, **style})


def _floor_curve(
    run: Run, topic: str, points: Iterator[tuple[int, Measurement]]
) -> Curve:
    rate = run.rate(topic)
    known = [(size, one.flop / rate) for size, one in points if one.flop and rate]
    style = {"color": "k", "linestyle": "--", "linewidth": 1.2}
    return Curve("floor: least work at the machine's rate", known, style)


def loss_time_curves(run: Run) -> list[Curve]:
    """Seconds of the loss against the batch."""

    def points(what: str) -> Iterator[tuple[int, Measurement]]:
        return _points(run, "loss", what, "batch")

    peer = {"color": PURPLE, "linestyle": "none", "marker": "D", "markersize": 7}
    return [
        _seconds_curve(
            "TCM, forward and backward", points("TCM"), color=BLUE, linewidth=2
        ),
        _seconds_curve("three matrix products", points("three products"), color=ORANGE),
        _seconds_curve("two matrix products", points("two products"), color=GREEN),
        _seconds_curve(
            "pytorch-metric-learning", points("pytorch-metric-learning"), **peer
        ),
        _floor_curve(run, "loss", points("TCM")),
    ]


def evaluation_time_curves(run: Run, dimension: int) -> list[Curve]:
    """Seconds of the evaluation against the number of samples."""

    def points(what: str) -> Iterator[tuple[int, Measurement]]:
        return _points(run, "evaluation", what, "n", d=dimension)

    return [
        _seconds_curve(
            "evaluate_embeddings", points("evaluation"), color=BLUE, linewidth=2
        ),
        _seconds_curve(
            "the same without Numba",
            points("evaluation without Numba"),
            color=BLUE,
            linestyle=":",
        ),
        _seconds_curve("faiss, 2 neighbours", points("faiss"), color=ORANGE),
        _seconds_curve(
            "products of each pair once",
            points("products of each pair once"),
            color=GREEN,
        ),
        _floor_curve(run, "evaluation", points("evaluation")),
    ]


def memory_curves(
    runs: Mapping[str, Run], topic: str, what: str, key: str
) -> list[Curve]:
    """Peak memory in GiB of all backends against the size."""
    curves = []
    for (backend, run), color in zip(runs.items(), (ORANGE, BLUE, GREEN), strict=False):
        known = [
            (size, max(one.peak_bytes, 2**20) / GIB)
            for size, one in _points(run, topic, what, key)
            if one.peak_bytes is not None
        ]
        style = {"color": color, "marker": "o", "markersize": 4}
        curves.append(Curve(TITLES[backend], known, style))
    return curves


def _reference(
    label: str, curves: Sequence[Curve], value: Callable[[int], float], style: str
) -> Curve:
    """A line over all sizes that occur."""
    sizes = sorted({size for curve in curves for size, _ in curve.points})
    line = {
        "color": "k" if style == "--" else GREY,
        "linestyle": style,
        "linewidth": 1.2,
    }
    return Curve(label, [(size, value(size) / GIB) for size in sizes], line)


def draw(ax: Any, curves: Sequence[Curve], title: str, **labels: str) -> None:
    """Draw curves on logarithmic axes."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for curve in curves:
        if curve.points:
            sizes, values = zip(*sorted(curve.points), strict=True)
            ax.plot(sizes, values, label=curve.label, **curve.style)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ticks = sorted({size for curve in curves for size, _ in curve.points})
    ax.set_xticks(ticks, minor=False)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.tick_params(axis="x", labelrotation=45)
    ax.grid(color="0.9")
    ax.set(title=title, **labels)


def write_figures(runs: Mapping[str, Run], folder: pathlib.Path) -> None:
    """Write the figures of the document to a folder, which is made if missing."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)

    def save(figure: Any, name: str) -> None:
        figure.savefig(folder / f"benchmarks_{name}.png", dpi=110)
        plt.close(figure)

    def panels(num_rows: int) -> tuple[Any, Any]:
        return plt.subplots(
            num_rows,
            len(runs),
            figsize=(4.3 * len(runs) + 0.4, 3.9 * num_rows + 0.6),
            sharey="row",
            squeeze=False,
            layout="constrained",
        )

    def legend_below(figure: Any, ax: Any, num_columns: int) -> None:
        handles, names = ax.get_legend_handles_labels()
        figure.legend(
            handles, names, loc="outside lower center", ncols=num_columns, frameon=False
        )

    figure, axes = panels(1)
    for ax, (backend, run) in zip(axes[0], runs.items(), strict=True):
        draw(ax, loss_time_curves(run), TITLES[backend], xlabel="batch size")
    axes[0, 0].set_ylabel("seconds")
    legend_below(figure, axes[0, -1], 5 if len(runs) > 2 else 2)
    save(figure, "loss_time")

    figure, axes = panels(2)
    for row, dimension in zip(axes, (128, 512), strict=True):
        for ax, (backend, run) in zip(row, runs.items(), strict=True):
            curves = evaluation_time_curves(run, dimension)
            title = f"{TITLES[backend]}, d = {dimension}"
            draw(ax, curves, title, xlabel="samples")
        row[0].set_ylabel("seconds")
    legend_below(figure, axes[0, -1], 5 if len(runs) > 2 else 2)
    save(figure, "evaluation_time")

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    curves = memory_curves(runs, "loss", "TCM memory", "batch")
    curves += [
        _reference("one batch x batch matrix", curves, lambda n: 4.0 * n * n, ":"),
        _reference("floor: the gradient", curves, lambda n: 4.0 * n * 512, "--"),
    ]
    labels = {"ylabel": "peak memory over the inputs (GiB)"}
    draw(left, curves, "TCM, d = 512", xlabel="batch size", **labels)
    curves = memory_curves(runs, "evaluation", "evaluation memory", "n")
    curves += [
        _reference("one n x n matrix", curves, lambda n: 4.0 * n * n, ":"),
        # 5.3 samples a class, 101 thresholds, 8 bytes.
        _reference("floor: the curves returned", curves, lambda n: n / 5.3 * 808, "--"),
    ]
    draw(right, curves, "evaluate_embeddings, d = 512", xlabel="samples", **labels)
    for ax in (left, right):
        ax.legend(fontsize="small")
    save(figure, "memory")


def section(runs: Mapping[str, Run], images: str) -> str:
    """The generated part of the document."""
    return f"""
{conditions(runs)}

## Budgets

{budget_table(runs)}

## The losses and plain automatic differentiation

{autodiff_table(runs)}

## Distance from the floor

{floor_table(runs)}

## Time of the loss

![Seconds of TCM against the batch size]({images}/benchmarks_loss_time.png)

## Time of the evaluation

![Seconds of the evaluation against samples]({images}/benchmarks_evaluation_time.png)

## Memory

![Peak memory of loss and evaluation]({images}/benchmarks_memory.png)

## A sample of the pairs

{sampled_tables(runs)}
"""


def replace_section(text: str, new: str) -> str:
    """Put text between the markers of a document."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"`text` must have the markers {BEGIN} and {END}. Received: text={text!r}"
        )
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def main() -> None:
    """Write the document and its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results")
    parser.add_argument(
        "--docs", type=pathlib.Path, default=HERE.parent / "docs" / "benchmarks.md"
    )
    args = parser.parse_args()

    import matplotlib

    matplotlib.use("Agg")
    runs = load(args.results)
    write_figures(runs, args.docs.parent / "images")
    args.docs.write_text(
        replace_section(args.docs.read_text(), section(runs, "images"))
    )
    print(f"Wrote {args.docs}")


if __name__ == "__main__":
    main()
