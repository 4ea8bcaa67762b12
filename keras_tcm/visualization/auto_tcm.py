"""What AutoTCM set itself to, epoch by epoch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_tcm.visualization.palette import palette
from keras_tcm.visualization.pyplot import pyplot

if TYPE_CHECKING:
    import matplotlib.figure

# Title of each panel, and the lines in it: name in the logs, label, colour, style.
_PANELS = (
    (
        "Margins (cosine similarity)",
        ("positive_margin", "positive margin", "blue", "solid"),
        ("negative_margin", "negative margin", "orange", "dashed"),
    ),
    (
        "Hard pairs",
        ("hard_positives", "share of positive pairs", "blue", "solid"),
        ("hard_negatives", "share of negative pairs", "orange", "dashed"),
    ),
    (
        "Weight of TCM",
        ("tcm_weight", "weight", "chosen", "solid"),
        ("gradient_ratio", "base gradient / TCM gradient", "orange", "dashed"),
    ),
    (
        "Pull and push",
        ("gradient_alignment", "alignment with the base", "blue", "solid"),
        ("negative_weight", "weight of the negative term", "orange", "dashed"),
    ),
)


def plot_auto_tcm(history: Any) -> "matplotlib.figure.Figure":
    """Draw what `metrics.AutoTCMMonitor` logged over a training.

    The margins should follow the model and settle, the hard positive pairs become
    fewer. Weights have the scale of the base loss over that of TCM.

    Args:
        history: What `fit` returned, or its `history`: a mapping of the names in the
            logs to one number an epoch.

    Returns:
        The figure, with four panels over the epochs.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the logs have no names of `AutoTCMMonitor`.

    Example:

    >>> loss = keras_tcm.AutoTCM(keras_tcm.losses.MultiSimilarity())
    >>> model.compile(
    ...     "adam", loss=loss, metrics=[keras_tcm.metrics.AutoTCMMonitor(loss)])
    >>> history = model.fit(sampler, epochs=2, verbose=0)
    >>> figure = keras_tcm.visualization.plot_auto_tcm(history)
    """
    logs = getattr(history, "history", history)
    names = [name for _, *lines in _PANELS for name, *_ in lines]
    if not isinstance(logs, Mapping) or not set(names) <= logs.keys():
        found = sorted(logs) if isinstance(logs, Mapping) else history
        raise ValueError(
            "`history` must have the logs of `keras_tcm.metrics.AutoTCMMonitor`, "
            f"{', '.join(names)}. Received: {found!r:.200}"
        )
    plt = pyplot()
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.4), layout="constrained")
    colors = palette()
    for ax, (title, *lines) in zip(axes, _PANELS, strict=True):
        for name, label, color, style in lines:
            values = [float(value) for value in logs[name]]
            ax.plot(
                range(1, len(values) + 1),
                values,
                marker="o",
                markersize=3,
                linestyle=style,
                color=getattr(colors, color),
                label=label,
            )
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize="small")
    axes[1].set_ylim(bottom=0)
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes[2].set_ylim(bottom=0)
    return figure
