"""The notebooks: a script in their folder runs them."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "notebooks"))
