"""Losses on embeddings, and on the cosines of `layers.CosineClassifier`."""

from keras_tcm.losses.arc_face import ArcFace as ArcFace
from keras_tcm.losses.auto_tcm import AutoTCM as AutoTCM
from keras_tcm.losses.contrastive import Contrastive as Contrastive
from keras_tcm.losses.cos_face import CosFace as CosFace
from keras_tcm.losses.embedding_loss import EmbeddingLoss as EmbeddingLoss
from keras_tcm.losses.info_nce import InfoNCE as InfoNCE
from keras_tcm.losses.multi_similarity import MultiSimilarity as MultiSimilarity
from keras_tcm.losses.normalized_softmax import NormalizedSoftmax as NormalizedSoftmax
from keras_tcm.losses.pairwise_loss import PairwiseLoss as PairwiseLoss
from keras_tcm.losses.proxy_anchor import ProxyAnchor as ProxyAnchor
from keras_tcm.losses.recall_at_k import RecallAtK as RecallAtK
from keras_tcm.losses.sig_lip import SigLIP as SigLIP
from keras_tcm.losses.smooth_ap import SmoothAP as SmoothAP
from keras_tcm.losses.supervised_contrastive import (
    SupervisedContrastive as SupervisedContrastive,
)
from keras_tcm.losses.tcm import TCM as TCM
from keras_tcm.losses.triplet_margin import TripletMargin as TripletMargin
from keras_tcm.losses.weighted_sum import WeightedSum as WeightedSum
