"""Pure functions that losses, metrics and the evaluation share.

`curves` works on counts in NumPy; the others on tensors of any Keras backend, and are
differentiable.
"""

from keras_tcm.ops.pairs import Pairs as Pairs
from keras_tcm.ops.pairs import pair_masks as pair_masks
from keras_tcm.ops.similarity import cosine_similarities as cosine_similarities
from keras_tcm.ops.similarity import l2_normalize as l2_normalize
