"""Characters of many alphabets, drawn from the outlines of 16 font faces.

A class is a character. Training sees Latin letters and digits, testing sees Greek,
Cyrillic, Armenian and Georgian ones. An instance is the character in one of the
faces, turned, scaled, sheared, shifted, blurred, faded and covered with noise.

One distance threshold suits such classes badly, as in a real catalogue, because they
differ in two ways, both drawn from the character's own random stream:

* **Variability**, uniform in 0 to 1. It scales every distortion (from a quarter of
  its full size up) and the number of faces (from two up to all that have the
  character): some classes are tight, some are wide.
* **Count**, log-uniform: 30 to 200 instances for a train class, 16 to 90 for a test
  class.

Many characters look the same once they are centred and scaled (o, O, omicron, the
Cyrillic o, modifier letters), and as classes of their own they would be label noise.
`distinct` therefore keeps a character only if it differs from all that were kept
before it.

The data are the same on every machine: integer arithmetic, IEEE `+ - * /` on single
elements, and NumPy's frozen `RandomState` stream.
"""

import unicodedata
from collections.abc import Sequence

from keras_tcm.datasets.character_set import (
    Candidates,
    CharacterSet,
    characters_of,
)
from keras_tcm.datasets.glyph_outlines import Face

MIN_FACES = 8
TRAIN_COUNTS = (30, 200)
TEST_COUNTS = (16, 90)

TRAIN_BLOCKS = (
    (0x0030, 0x024F),  # Basic Latin, Latin-1, Latin Extended-A and -B
    (0x0250, 0x02AF),  # IPA
    (0x1D00, 0x1DBF),  # Phonetic Extensions
    (0x1E00, 0x1EFF),  # Latin Extended Additional
    (0x2C60, 0x2C7F),  # Latin Extended-C
    (0xA720, 0xA7FF),  # Latin Extended-D
)
TEST_BLOCKS = (
    (0x0370, 0x03FF),  # Greek
    (0x0400, 0x052F),  # Cyrillic and its supplement
    (0x0531, 0x0588),  # Armenian
    (0x10A0, 0x10FF),  # Georgian
    (0x2D00, 0x2D2F),  # Georgian Supplement
    (0xA640, 0xA69F),  # Cyrillic Extended-B
    (0x1F00, 0x1FFF),  # Greek Extended: last, so that plain letters come first
)


def _candidates(faces: Sequence[Face]) -> Candidates:
    """Lists the letters and digits that enough faces have, train and test."""

    def of_blocks(blocks: Sequence[tuple[int, int]]) -> list[str]:
        return [
            character
            for character in characters_of(blocks, faces, MIN_FACES)
            if character.isalnum()
            # Raised letters are ordinary ones, drawn small with thick strokes.
            and not unicodedata.decomposition(character).startswith("<super>")
        ]

    return of_blocks(TRAIN_BLOCKS), of_blocks(TEST_BLOCKS)


_SET = CharacterSet("glyphs-v1.npz", _candidates, TRAIN_COUNTS, TEST_COUNTS)

load = _SET.load
class_names = _SET.class_names
