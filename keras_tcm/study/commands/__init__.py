"""The commands of `keras-tcm`, one module each.

Each has `add_parser(commands)`, which adds the parser of the command to the
subparsers of `keras-tcm` and sets its `run`, a function of the parsed arguments.
"""
