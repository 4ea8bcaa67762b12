"""Colours of the figures and of the page, which also differ for colour-blind readers.

From the palette of Okabe and Ito. In figures and page, `blue` stands for positive
pairs, their FRR, and most classes; `orange` for negative pairs, their FAR, and the
worst classes.
"""

from typing import NamedTuple

from keras_tcm.visualization.pyplot import pyplot


class Palette(NamedTuple):
    """Colours that stand out from a background.

    Attributes:
        blue: What should be together, and what most are.
        orange: What should be apart, and what stands out.
        chosen: What the reader has chosen; dark enough, or light enough, for text.
    """

    blue: str
    orange: str
    chosen: str


ON_LIGHT = Palette("#0072B2", "#D55E00", "#A8327F")
ON_DARK = Palette("#56B4E9", "#E69F00", "#E58AC4")
# For several kinds, on any background: without the palette's yellow, which is too pale
# for markers on white, and its black, which a dark background hides.
COLORS = (*ON_LIGHT[:2], "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def foreground() -> str:
    """Colour of the text in the current style: dark on light, or light on dark."""
    return pyplot().rcParams["text.color"]


def palette() -> Palette:
    """Colours that suit the background of the current style."""
    pyplot()
    from matplotlib.colors import to_rgb

    is_light_on_dark = sum(to_rgb(foreground())) > 1.5
    return ON_DARK if is_light_on_dark else ON_LIGHT
