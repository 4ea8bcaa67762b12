"""Figures (matplotlib)."""

from keras_tcm.visualization.auto_tcm import plot_auto_tcm as plot_auto_tcm
from keras_tcm.visualization.circle import plot_circle as plot_circle
from keras_tcm.visualization.class_thresholds import (
    plot_class_thresholds as plot_class_thresholds,
)
from keras_tcm.visualization.consistency import ConsistencyPoint as ConsistencyPoint
from keras_tcm.visualization.consistency import plot_consistency as plot_consistency
from keras_tcm.visualization.detection_errors import (
    plot_detection_errors as plot_detection_errors,
)
from keras_tcm.visualization.error_rates import plot_error_rates as plot_error_rates
from keras_tcm.visualization.neighbors import plot_neighbors as plot_neighbors
from keras_tcm.visualization.probability import plot_probability as plot_probability
from keras_tcm.visualization.promises import plot_promises as plot_promises
from keras_tcm.visualization.reliability import plot_reliability as plot_reliability
from keras_tcm.visualization.similarities import plot_similarities as plot_similarities
from keras_tcm.visualization.utility import plot_utility as plot_utility
from keras_tcm.visualization.utility import (
    plot_utility_comparison as plot_utility_comparison,
)
from keras_tcm.visualization.worst_classes import (
    plot_worst_classes as plot_worst_classes,
)
