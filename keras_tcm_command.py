"""Starts `keras-tcm`, the command in `keras_tcm/cli`.

To import a part of `keras_tcm` is to import Keras and a backend first, which takes
seconds, and fails where there is none. Help and version need neither. So this module
lies beside the package, and loads the part without the whole.
"""

import importlib.util
import pathlib
import sys
from importlib.machinery import PathFinder


def main() -> int:
    """Run the command as a process of its own.

    Returns:
        Exit code.
    """
    package = pathlib.Path(__file__).with_name("keras_tcm")
    spec = PathFinder.find_spec("keras_tcm.cli", [str(package)])
    cli = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = cli
    spec.loader.exec_module(cli)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
