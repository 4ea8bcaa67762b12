"""Which pairs are positive, where that is not a matter of equal labels."""

from keras_tcm.relevance.class_relevance import ClassRelevance as ClassRelevance
from keras_tcm.relevance.function_relevance import (
    FunctionRelevance as FunctionRelevance,
)
from keras_tcm.relevance.get_relevance import get_relevance as get_relevance
from keras_tcm.relevance.hierarchy_level import HierarchyLevel as HierarchyLevel
from keras_tcm.relevance.relevance import Relevance as Relevance
from keras_tcm.relevance.shared_label import SharedLabel as SharedLabel
