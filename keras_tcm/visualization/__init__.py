"""Figures (matplotlib)."""

from keras_tcm.visualization.circle import plot_circle as plot_circle
from keras_tcm.visualization.consistency import ConsistencyPoint as ConsistencyPoint
from keras_tcm.visualization.consistency import plot_consistency as plot_consistency
from keras_tcm.visualization.utility import plot_utility as plot_utility
from keras_tcm.visualization.utility import (
    plot_utility_comparison as plot_utility_comparison,
)
