"""Reports as Markdown, as pages of HTML, and in the terminal."""

from keras_tcm.study.report.comparison_report import comparison_text as comparison_text
from keras_tcm.study.report.comparison_report import (
    write_comparison as write_comparison,
)
from keras_tcm.study.report.document import document as document
from keras_tcm.study.report.document import heading as heading
from keras_tcm.study.report.document import paragraph as paragraph
from keras_tcm.study.report.document import show as show
from keras_tcm.study.report.evaluation_report import (
    comparison_table as comparison_table,
)
from keras_tcm.study.report.evaluation_report import write_report as write_report
from keras_tcm.study.report.study_report import (
    write_study_report as write_study_report,
)
