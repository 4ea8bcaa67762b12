"""Symbols of a few hundred kinds, drawn like the glyphs.

A class is a symbol. Training sees the signs of mathematics and technology (operators,
relations, arrows, brackets), testing sees pictures: shapes, ornaments, game pieces,
weather signs, hexagrams, faces. It stands for product matching, in which a shop's
catalogue has other kinds of things than those that the network was trained on.

Instances, and how classes differ in variability and size, are as in the glyphs. Two
font faces are enough for a symbol, so there is less variety in form, and many symbols
differ in a detail (a stroke through them, the filling, the direction).
"""

from collections.abc import Sequence

from keras_tcm.datasets.character_set import (
    Candidates,
    CharacterSet,
    characters_of,
)
from keras_tcm.datasets.glyph_outlines import Face

MIN_FACES = 2
TRAIN_COUNTS = (30, 160)
TEST_COUNTS = (16, 60)

TRAIN_BLOCKS = (
    (0x2190, 0x21FF),  # Arrows
    (0x2200, 0x22FF),  # Mathematical Operators
    (0x2300, 0x23FF),  # Miscellaneous Technical
    (0x27C0, 0x27FF),  # Miscellaneous Mathematical Symbols-A, Supplemental Arrows-A
    (0x2900, 0x2AFF),  # Arrows-B, Symbols-B, Supplemental Mathematical Operators
)
TEST_BLOCKS = (
    (0x25A0, 0x25FF),  # Geometric Shapes
    (0x2600, 0x26FF),  # Miscellaneous Symbols
    (0x2700, 0x27BF),  # Dingbats
    (0x2B00, 0x2BFF),  # Miscellaneous Symbols and Arrows
    (0x4DC0, 0x4DFF),  # Yijing Hexagrams
    (0x1F030, 0x1F06F),  # Domino Tiles
    (0x1F0A0, 0x1F0FF),  # Playing Cards
    (0x1F600, 0x1F64F),  # Emoticons
)


def _candidates(faces: Sequence[Face]) -> Candidates:
    return (
        characters_of(TRAIN_BLOCKS, faces, MIN_FACES),
        characters_of(TEST_BLOCKS, faces, MIN_FACES),
    )


_SET = CharacterSet("symbols-v1.npz", _candidates, TRAIN_COUNTS, TEST_COUNTS)

load = _SET.load
class_names = _SET.class_names
