"""The command `keras-tcm`.

Nothing here imports another part of the package, and so Keras, until a command is to be
carried out: what does so is in `commands`. See `keras_tcm_command`.
"""

from keras_tcm.cli.arguments import make_parser as make_parser
from keras_tcm.cli.process import main as main
from keras_tcm.cli.process import run as run
