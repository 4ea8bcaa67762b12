"""The rates that thresholds have on other data, against what they promise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_tcm.threshold import ThresholdCheck
from keras_tcm.visualization.palette import foreground, palette
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.axes

# The checks of one promise lie this far to both sides of it, as a factor.
_SPREAD = 1.25
# The axis ends this far below the lowest rate; what is below it is drawn at its end.
_BELOW = 2.0


def plot_promises(
    checks: Sequence[ThresholdCheck], ax: "matplotlib.axes.Axes | None" = None
) -> "matplotlib.axes.Axes":
    """Draw the rate that each threshold has on other data against the one promised.

    A dot is a check: of one split of the classes into those on which a threshold is
    chosen and those on which it is checked, or of one month. The checks of one promise
    lie side by side, from the lowest rate to the highest. Above the dashed line, the
    rate exceeds what was promised. Thin lines are the intervals of the checks.

    A promise with 95% confidence is for all other classes of the same kind. The few on
    which it is checked vary too, so that more than one dot in 20 may lie above the
    line; what counts is whether their intervals do.

    Args:
        checks: What `Threshold.check` returned, at least one. All of the thresholds
            promise a FAR, or else all promise an FRR; where they promise both, the FAR
            is drawn.
        ax: Axes to draw on. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `checks` has something else in it.
        ValueError: If there are none, some promise a FAR and others an FRR alone, or
            some promise it for each class.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> others = np.repeat(np.arange(50), 4)
    >>> vectors = rng.normal(size=(50, 8))[others] + 0.3 * rng.normal(size=(200, 8))
    >>> checks = [threshold.check(vectors, others)]
    >>> ax = keras_tcm.visualization.plot_promises(checks)
    """
    plt = pyplot()
    checks = list(checks)
    if not checks:
        raise ValueError("`checks` must not be empty. Received: checks=[]")
    for check in checks:
        if not isinstance(check, ThresholdCheck):
            raise TypeError(
                "`checks` must be a sequence of what `Threshold.check` returns. "
                f"Received: {check!r} in it"
            )
    if any(check.share_kept is not None for check in checks):
        raise ValueError(
            "`checks` must be of thresholds that promise a rate over all pairs. "
            'Received: some with promise="class", whose verdict is about `share_kept`'
        )
    has_far = {check.far_target is not None for check in checks}
    if len(has_far) > 1:
        raise ValueError(
            "`checks` must be of thresholds that all promise a FAR, or all an FRR. "
            "Received: both"
        )
    name = "far" if has_far.pop() else "frr"
    found = _rates(checks, name)
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4.6), layout="constrained")
    colors = palette()
    common: dict[str, Any] = {"linestyle": "none", "markersize": 5}
    styles = (
        ("at most the promise", {"marker": "o", "color": colors.blue, **common}),
        (
            "above, but not the interval",
            {
                "marker": "o",
                "color": colors.orange,
                "markerfacecolor": "none",
                **common,
            },
        ),
        ("above with its interval", {"marker": "X", "color": colors.orange, **common}),
    )
    bottom = found[found > 0].min() / _BELOW
    for target in np.unique(found[:, 0]):
        some = found[found[:, 0] == target]
        some = some[np.argsort(some[:, 1], kind="stable")]
        offsets = np.linspace(-1.0, 1.0, len(some)) if len(some) > 1 else np.zeros(1)
        places = target * _SPREAD**offsets
        rates, low, high = np.maximum(some[:, 1:], bottom).T
        ax.vlines(places, low, high, color=foreground(), alpha=0.35, linewidth=0.8)
        for which, (_, style) in zip(_kinds(some), styles, strict=True):
            ax.plot(places[which], rates[which], **style)
        ends = target * _SPREAD ** np.array([-1.3, 1.3])
        ax.plot(ends, [target, target], color=foreground(), linestyle="--")
    for which, (label, style) in zip(_kinds(found), styles, strict=True):
        ax.plot([], [], label=f"{label}: {which.sum()} of {len(found)}", **style)
    ax.plot([], [], color=foreground(), linestyle="--", label="promise")
    targets = np.unique(found[:, 0])
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=f"{name.upper()} promised",
        ylabel=f"{name.upper()} on other data",
    )
    ax.set_ylim(bottom=bottom / 1.1)
    ax.set_xticks(targets, [f"{100 * target:g}%" for target in targets], minor=False)
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    ax.yaxis.set_minor_formatter(lambda value, _: _minor_label(value))
    ax.legend(framealpha=0.9, fontsize="small")
    return ax


def _minor_label(value: float) -> str:
    """Name 2, 3 and 5 of each power of ten, which may be all that there is."""
    digit = round(value / 10.0 ** np.floor(np.log10(value)))
    return f"{100 * value:.2g}%" if digit in (2, 3, 5) else ""


def _kinds(found: np.ndarray) -> tuple[np.ndarray, ...]:
    """Which rates are at most the target, above it, and above it beyond doubt."""
    targets, rates, low, _ = found.T
    return rates <= targets, (rates > targets) & (low <= targets), low > targets


def _rates(checks: Sequence[ThresholdCheck], name: str) -> np.ndarray:
    """Target, rate, and the limits of its interval, of each check."""
    rows = [
        (
            getattr(check, f"{name}_target"),
            getattr(check, name),
            *getattr(check, f"{name}_interval"),
        )
        for check in checks
    ]
    return np.array(rows, np.float64)
