"""What the commands of `keras-tcm` do, one module each.

Each has `run(args)`, a function of the arguments that `keras_tcm_command` parsed.
"""
