"""Parse the command, run it, and turn what a user can mend into one sentence."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import subcommand

from offdiag._checks import OffdiagError
from offdiag.cli.demo import Demo
from offdiag.cli.frozen import Embed, Evaluate
from offdiag.cli.report import Report
from offdiag.cli.theory import Theory
from offdiag.cli.train import Train

Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Embed, subcommand("embed")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Theory, subcommand("theory")]
)

FAILED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `offdiag`; exits 0 on success, 2 on a sentence, 130 on Ctrl-C."""
    try:
        command: Command = tyro.cli(
            Command,
            prog="offdiag",
            description="Non-contrastive self-supervised learning: train it, watch it, explain it.",
            args=arguments,
        )
        command.run()
    except OffdiagError as error:
        print(f"offdiag: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("offdiag: interrupted; a run can be continued with --resume.", file=sys.stderr)
        sys.exit(INTERRUPTED)
