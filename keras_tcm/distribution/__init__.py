"""Training on several devices: what each of them must know of the others."""

from keras_tcm.distribution.data_parallel import data_parallel as data_parallel
from keras_tcm.distribution.replicas import Replicas as Replicas
from keras_tcm.distribution.replicas import active_replicas as active_replicas
