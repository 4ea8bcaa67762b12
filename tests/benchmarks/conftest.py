"""The benchmarks are scripts: their folder is not on the path otherwise."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))
