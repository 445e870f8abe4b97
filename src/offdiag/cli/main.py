"""Parse the command, call it, and turn what a user can mend into one sentence."""

import sys

import tyro

from offdiag._checks import OffdiagError
from offdiag.cli.theory import TheoryRun


def main() -> None:
    """Entry point of the command `offdiag`."""
    if sys.argv[1:2] == ["theory"]:
        try:
            tyro.extras.subcommand_cli_from_dict(
                {"run": TheoryRun}, prog="offdiag theory", args=sys.argv[2:]
            )()
        except OffdiagError as error:
            sys.exit(str(error))
