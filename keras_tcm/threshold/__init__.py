"""A threshold with a promise, as something to ship."""

from keras_tcm.threshold.checks import ThresholdCheck as ThresholdCheck
from keras_tcm.threshold.checks import UnlabelledCheck as UnlabelledCheck
from keras_tcm.threshold.choose_threshold import choose_threshold as choose_threshold
from keras_tcm.threshold.distance_sketch import DistanceSketch as DistanceSketch
from keras_tcm.threshold.fingerprints import Canaries as Canaries
from keras_tcm.threshold.fingerprints import fingerprint as fingerprint
from keras_tcm.threshold.matcher import Matcher as Matcher
from keras_tcm.threshold.matcher import Matches as Matches
from keras_tcm.threshold.promises import BROKEN as BROKEN
from keras_tcm.threshold.score_calibration import ScoreCalibration as ScoreCalibration
from keras_tcm.threshold.threshold import Threshold as Threshold
