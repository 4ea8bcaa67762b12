"""`keras-tcm study`."""

import argparse

from keras_tcm.cli.commands.report import write_and_print
from keras_tcm.cli.messages import UsageError, mistakes
from keras_tcm.cli.options import check_figures, make_folder, tcm_setting
from keras_tcm.study import run_study


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    if args.seeds is not None and len(set(args.seeds)) < len(args.seeds):
        raise UsageError(f"--seeds must differ. Received: {args.seeds}")
    tcm = tcm_setting(args)
    check_figures()
    make_folder(args.out)
    with mistakes(ValueError):
        run_study(
            args.out,
            args.preset,
            data_dir=args.data_dir,
            seeds=args.seeds,
            workers=args.workers,
            tcm=tcm,
        )
    write_and_print(args.out, args.out)
