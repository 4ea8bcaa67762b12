"""Comparisons of models trained with and without TCM, and their reports."""

from keras_tcm.study.demo import DEMO_STEPS as DEMO_STEPS
from keras_tcm.study.demo import DemoSettings as DemoSettings
from keras_tcm.study.demo import run_demo as run_demo
from keras_tcm.study.grid import TCMSetting as TCMSetting
from keras_tcm.study.runner import run_study as run_study
from keras_tcm.study.toy import run_toy as run_toy
