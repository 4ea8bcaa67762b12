"""Comparisons of models trained with and without TCM, and the command line."""

from keras_tcm.study.compare import ModelComparison as ModelComparison
from keras_tcm.study.compare import compare_embeddings as compare_embeddings
