"""`keras-tcm study`."""

import argparse

from keras_tcm.cli.commands.report import write_and_print
from keras_tcm.cli.messages import UsageError
from keras_tcm.cli.options import check_figures, make_folder, tcm_setting
from keras_tcm.study import run_study


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    if args.seeds is not None and len(set(args.seeds)) < len(args.seeds):
        raise UsageError(f"--seeds must differ. Received: {args.seeds}")
    tcm = tcm_setting(args)
    check_figures()
    make_folder(args.out)
    try:
        run_study(
            args.out,
            args.preset,
            data_dir=args.data_dir,
            seeds=args.seeds,
            workers=args.workers,
            tcm=tcm,
        )
    except ValueError as error:
        raise UsageError(error) from None
    write_and_print(args.out, args.out)
