"""Reference values: what OPIS, TCM and the rates they rest on are, to the last digit.

`definition.py` in this folder is the definition, in plain NumPy; by the values of
`cases.json` an implementation in any language can be checked.
"""

from keras_tcm.reference.case import Case as Case
from keras_tcm.reference.case import cases as cases
