"""Exact evaluation of embeddings over all pairs."""

from keras_tcm.evaluation.error_rates import ErrorRates as ErrorRates
from keras_tcm.evaluation.errors import UndefinedError as UndefinedError
from keras_tcm.evaluation.evaluate_embeddings import (
    evaluate_embeddings as evaluate_embeddings,
)
from keras_tcm.evaluation.evaluation import Evaluation as Evaluation
from keras_tcm.evaluation.evaluation import OperatingPoint as OperatingPoint
