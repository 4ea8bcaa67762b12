"""Exact evaluation of embeddings over all pairs."""

from keras_tcm.evaluation._counting.single_measures import (
    nearest_samples as nearest_samples,
)
from keras_tcm.evaluation._counting.single_measures import (
    pair_histograms as pair_histograms,
)
from keras_tcm.evaluation._counting.single_measures import recall_at_k as recall_at_k
from keras_tcm.evaluation._inputs.pair_space import check_relevance as check_relevance
from keras_tcm.evaluation._inputs.samples import check_embeddings as check_embeddings
from keras_tcm.evaluation._inputs.samples import normalize as normalize
from keras_tcm.evaluation._inputs.samples import similarities as similarities
from keras_tcm.evaluation._inputs.samples import to_tensor as to_tensor
from keras_tcm.evaluation.class_counts import ClassCounts as ClassCounts
from keras_tcm.evaluation.class_counts import count_classes as count_classes
from keras_tcm.evaluation.class_errors import ClassErrors as ClassErrors
from keras_tcm.evaluation.class_intervals import CONFIDENCE as CONFIDENCE
from keras_tcm.evaluation.compare_embeddings import Estimate as Estimate
from keras_tcm.evaluation.compare_embeddings import MeasureChange as MeasureChange
from keras_tcm.evaluation.compare_embeddings import ModelComparison as ModelComparison
from keras_tcm.evaluation.compare_embeddings import (
    compare_embeddings as compare_embeddings,
)
from keras_tcm.evaluation.criteria import make_criteria as make_criteria
from keras_tcm.evaluation.distances import DISTANCES as DISTANCES
from keras_tcm.evaluation.distances import RANK_TIE_STEPS as RANK_TIE_STEPS
from keras_tcm.evaluation.distances import STEPS_PER_UNIT as STEPS_PER_UNIT
from keras_tcm.evaluation.distances import STRETCHES as STRETCHES
from keras_tcm.evaluation.distances import Histogram as Histogram
from keras_tcm.evaluation.distances import accepted_steps as accepted_steps
from keras_tcm.evaluation.distances import distance_range as distance_range
from keras_tcm.evaluation.distances import from_cosine as from_cosine
from keras_tcm.evaluation.distances import to_cosine as to_cosine
from keras_tcm.evaluation.distances import to_steps as to_steps
from keras_tcm.evaluation.evaluate_embeddings import (
    evaluate_embeddings as evaluate_embeddings,
)
from keras_tcm.evaluation.evaluation import ErrorRates as ErrorRates
from keras_tcm.evaluation.evaluation import Evaluation as Evaluation
from keras_tcm.evaluation.evaluation import OperatingPoint as OperatingPoint
from keras_tcm.evaluation.groups import Group as Group
from keras_tcm.evaluation.groups import GroupPoint as GroupPoint
from keras_tcm.evaluation.inequity import Inequity as Inequity
from keras_tcm.evaluation.inequity import (
    fairness_discrepancy_rate as fairness_discrepancy_rate,
)
from keras_tcm.evaluation.inequity import garbe as garbe
from keras_tcm.evaluation.inequity import gini_coefficient as gini_coefficient
from keras_tcm.evaluation.inequity import (
    max_to_geometric_mean as max_to_geometric_mean,
)
from keras_tcm.evaluation.inequity import max_to_min as max_to_min
from keras_tcm.evaluation.inequity import mean_of_worst as mean_of_worst
from keras_tcm.evaluation.precision import full_precision as full_precision
from keras_tcm.evaluation.score_normalization import (
    ScoreNormalization as ScoreNormalization,
)
from keras_tcm.evaluation.score_normalization import (
    compared_dimension as compared_dimension,
)
from keras_tcm.evaluation.score_normalization import measure_of as measure_of
from keras_tcm.validation import UndefinedError as UndefinedError
