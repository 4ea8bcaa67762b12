"""keras_tcm: one distance threshold that means the same for every class."""

__version__ = "0.1.0"
