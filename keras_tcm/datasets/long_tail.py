"""Letters of lesser-known scripts, a few of them frequent and most of them rare.

A class is a letter or syllable of the Canadian Aboriginal, Arabic, Hebrew, Lao,
Tifinagh, N'Ko or Lisu script; half of them, chosen at random, are for training. It
stands for collections such as sightings of species: the number of instances is
log-uniform, from 4 to 400 in training (the most frequent tenth of the classes has more
than a third of the images) and from 4 to 100 in testing, where most classes are rare.

Instances, and how classes differ in variability, are as in the glyphs, drawn from the
two to eight font faces that have the letter.
"""

from collections.abc import Sequence

import numpy as np

from keras_tcm.datasets.character_set import (
    Candidates,
    CharacterSet,
    characters_of,
)
from keras_tcm.datasets.glyph_outlines import Face

MIN_FACES = 2
TRAIN_COUNTS = (4, 400)
TEST_COUNTS = (4, 100)
SPLIT_SEED = 1

BLOCKS = (
    (0x05D0, 0x05EA),  # Hebrew
    (0x07C0, 0x07EA),  # N'Ko
    (0x0E80, 0x0EDF),  # Lao
    (0x1400, 0x167F),  # Unified Canadian Aboriginal Syllabics
    (0x2D30, 0x2D6F),  # Tifinagh
    (0xA4D0, 0xA4F7),  # Lisu
    (0xFB50, 0xFDFF),  # Arabic Presentation Forms-A
    (0xFE70, 0xFEFC),  # Arabic Presentation Forms-B
)


def _candidates(faces: Sequence[Face]) -> Candidates:
    """Lists the letters, shuffled, and gives every other one to training."""
    characters = [
        character
        for character in characters_of(BLOCKS, faces, MIN_FACES)
        if character.isalnum()
    ]
    # The Generator streams may change between NumPy versions, this one may not.
    keys = np.random.RandomState(SPLIT_SEED).random_sample(len(characters))
    shuffled = [characters[i] for i in np.argsort(keys, kind="stable")]
    return shuffled[::2], shuffled[1::2]


_SET = CharacterSet("long_tail-v1.npz", _candidates, TRAIN_COUNTS, TEST_COUNTS)

load = _SET.load
class_names = _SET.class_names
