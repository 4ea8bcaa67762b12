"""An evaluation as an interactive page of HTML."""

from keras_tcm.report.page import render_page as render_page
