"""The page: its parts put together."""

import base64
import hashlib
import html
import importlib.resources
import string
from typing import Any

from keras_tcm.class_names import ClassNames
from keras_tcm.evaluation import Evaluation
from keras_tcm.report.page_data import page_data
from keras_tcm.report.summary import (
    describe,
    measures,
    open_set_heading,
    operating_points,
    sizes,
)
from keras_tcm.report.thumbnails import thumbnails
from keras_tcm.visualization.palette import ON_DARK, ON_LIGHT

_SCRIPTS = ("chart.js", "class_table.js", "page.js")


def render_page(
    evaluation: Evaluation,
    title: str,
    class_names: ClassNames | None = None,
    images: Any = None,
    labels: Any = None,
) -> str:
    """Write an evaluation as a page that needs no other file and no network.

    Args:
        evaluation: What the page is about.
        title: Title of the page; plain text.
        class_names: The name of each label; see `Evaluation.to_html`.
        images: Images of the classes.
        labels: Labels of the images.

    Returns:
        The page. A browser runs no other script in it than this package's: class names
        and title are text, and the page's security policy names the script by its hash.
    """
    if (images is None) != (labels is None):
        raise ValueError(
            "`images` and `labels` must be given together. Received: "
            f"{'labels' if images is None else 'images'} alone"
        )
    pictures = None if images is None else thumbnails(evaluation, images, labels)
    # The line break after the opening tag is part of what is hashed.
    script = "\n" + "\n".join(map(_read, _SCRIPTS))
    style = "\n" + string.Template(_read("page.css")).substitute(_colors())
    # A single pass: what a value contains is never taken for a placeholder.
    return string.Template(_read("page.html")).substitute(
        title=html.escape(title),
        script=script,
        script_hash=_hash(script),
        style=style,
        style_hash=_hash(style),
        data=page_data(evaluation, class_names, pictures),
        description=html.escape(describe(evaluation)),
        measures=measures(evaluation),
        sizes=sizes(evaluation),
        open_set_heading=open_set_heading(evaluation),
        operating_points=operating_points(evaluation),
        distance=html.escape(evaluation.distance),
        beta=f"{evaluation.beta:g}",
        epsilon=f"{evaluation.epsilon:.0%}",
    )


def _colors() -> dict[str, str]:
    return {
        f"{background}_{name}": color
        for background, palette in (("light", ON_LIGHT), ("dark", ON_DARK))
        for name, color in palette._asdict().items()
    }


def _read(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
