"""Colours that also differ for colour-blind readers, on any background."""

from keras_tcm.visualization.pyplot import pyplot

BLUE = "#0072B2"
VERMILION = "#D55E00"
# The palette of Okabe and Ito, without its yellow, which is too pale for markers on
# white, and its black, which a dark background hides.
COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def foreground() -> str:
    """Colour of the text in the current style: dark on light, or light on dark."""
    return pyplot().rcParams["text.color"]
