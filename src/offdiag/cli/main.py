"""Parse the command, run it, and turn what a user can mend into one sentence."""

import os
import sys
from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any, Protocol, runtime_checkable

import tyro
from tyro.conf import subcommand

from offdiag._checks import OffdiagError

COMMANDS = {
    "demo": "offdiag.cli.demo:Demo",
    "train": "offdiag.cli.train:Train",
    "compare": "offdiag.cli.compare:Compare",
    "evaluate": "offdiag.cli.frozen:Evaluate",
    "embed": "offdiag.cli.frozen:Embed",
    "report": "offdiag.cli.report:Report",
    "figure": "offdiag.cli.figure:Figure",
    "diagnose": "offdiag.cli.diagnose:Diagnose",
    "theory": "offdiag.cli.theory:Theory",
}
"""Where each command lives; only the one that is asked for is loaded."""
RECIPES = ("train", "compare")
"""The commands that take --recipe."""
RECIPE_DEFAULTS = "offdiag.cli.recipe"

FAILED = 2
INTERRUPTED = 130


@runtime_checkable
class Command(Protocol):
    """What a parsed command can do. It may return an exit status: None and 0 are success."""

    def run(self) -> int | None: ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `offdiag`; exits 0 on success, 2 on a sentence, 130 on Ctrl-C.

    A command may end with a status of its own, as `diagnose` does.
    """
    try:
        status = parse(sys.argv[1:] if arguments is None else arguments).run()
    except OffdiagError as error:
        if _speaks():
            print(f"offdiag: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        if _speaks():
            print("offdiag: interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if status:
        sys.exit(status)


def parse(words: Sequence[str]) -> Command:
    """The command that the words spell; help and misspellings end here, as the parser does it."""
    named = words[0] if words else ""
    if named in COMMANDS:
        kind = _load(named)
        given: dict[str, Any] = {}
        # Only the commands that train know recipes; the others start without them.
        if named in RECIPES:
            default = import_module(RECIPE_DEFAULTS).defaults(kind, words)
            given = {} if default is None else {"default": default}
        command: Command = tyro.cli(kind, prog=f"offdiag {named}", args=words[1:], **given)
        return command
    every: Any = reduce(or_, (Annotated[_load(name), subcommand(name)] for name in COMMANDS))
    command = tyro.cli(
        every,
        prog="offdiag",
        description="Non-contrastive self-supervised learning: train it, watch it, explain it.",
        args=words,
    )
    return command


def _speaks() -> bool:
    """Whether this process is the one to tell an error that all processes of a run share."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    return bool(import_module("offdiag.runs.processes").first_to_speak())


def _load(name: str) -> Any:
    module, _, member = COMMANDS[name].partition(":")
    return getattr(import_module(module), member)
