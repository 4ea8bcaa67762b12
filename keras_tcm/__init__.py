"""keras_tcm: one distance threshold that means the same for every class."""

# ruff: noqa: E402 - Keras comes first, on a backend that is there.

from keras_tcm._backend import import_keras

import_keras()

from keras_tcm import callbacks as callbacks
from keras_tcm import data as data
from keras_tcm import datasets as datasets
from keras_tcm import distribution as distribution
from keras_tcm import evaluation as evaluation
from keras_tcm import interop as interop
from keras_tcm import layers as layers
from keras_tcm import losses as losses
from keras_tcm import metrics as metrics
from keras_tcm import models as models
from keras_tcm import ops as ops
from keras_tcm import reference as reference
from keras_tcm import relevance as relevance
from keras_tcm import threshold as threshold
from keras_tcm import visualization as visualization
from keras_tcm.evaluation import Evaluation as Evaluation
from keras_tcm.evaluation import ScoreNormalization as ScoreNormalization
from keras_tcm.evaluation import compare_embeddings as compare_embeddings
from keras_tcm.evaluation import evaluate_embeddings as evaluate_embeddings
from keras_tcm.losses.auto_tcm import AutoTCM as AutoTCM
from keras_tcm.losses.tcm import TCM as TCM
from keras_tcm.metrics.opis import OPIS as OPIS
from keras_tcm.threshold import Matcher as Matcher
from keras_tcm.threshold import Threshold as Threshold
from keras_tcm.threshold import choose_threshold as choose_threshold

__version__ = "0.1.0"
