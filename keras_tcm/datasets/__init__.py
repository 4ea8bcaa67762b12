"""Retrieval data sets whose train and test classes are disjoint."""

from keras_tcm.datasets import (
    cars196,
    codes,
    cub200,
    digits,
    emoji,
    glyphs,
    icons,
    inaturalist2018,
    long_tail,
    scenes,
    sop,
    symbols,
)
from keras_tcm.datasets.load import load

__all__ = [
    "cars196",
    "codes",
    "cub200",
    "digits",
    "emoji",
    "glyphs",
    "icons",
    "inaturalist2018",
    "load",
    "long_tail",
    "scenes",
    "sop",
    "symbols",
]
