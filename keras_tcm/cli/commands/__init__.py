"""What the commands do, one module each.

Each has `run(args)`, a function of the arguments that `keras_tcm.cli.arguments` names.
"""
