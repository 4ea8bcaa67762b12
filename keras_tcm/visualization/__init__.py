"""Figures (matplotlib)."""

from keras_tcm.visualization.utility import plot_utility as plot_utility
from keras_tcm.visualization.utility import (
    plot_utility_comparison as plot_utility_comparison,
)
