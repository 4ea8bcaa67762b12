"""Callbacks for `model.fit`."""

from keras_tcm.callbacks.retrieval_evaluation import (
    RetrievalEvaluation as RetrievalEvaluation,
)
