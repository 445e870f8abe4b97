"""Parse the command, run it, and turn what a user can mend into one sentence."""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

from offdiag._checks import OffdiagError


class Place(NamedTuple):
    """Where a command is, and its line in the help."""

    where: str
    summary: str


COMMANDS: Mapping[str, Place] = MappingProxyType(
    {
        "demo": Place("cli.demo:Demo", "four heads on the embedded digits, and one page"),
        "train": Place("cli.train:Train", "train one run into a directory, or continue one"),
        "compare": Place("cli.compare:Compare", "train a grid of runs, and one table and page"),
        "bench": Place(
            "cli.bench:Bench", "every mechanism on one bench, and the map of what each does"
        ),
        "bench verify": Place(
            "cli.bench_verify:BenchVerify", "claims of the papers, each measured on the bench"
        ),
        "evaluate": Place("cli.frozen:Evaluate", "kNN and linear probe of a trained run"),
        "embed": Place("cli.frozen:Embed", "write the embeddings of a data set to a file"),
        "report": Place("cli.report:Report", "one page for one run or several"),
        "figure": Place("cli.figure:Figure", "draw the head over training"),
        "diagnose": Place("cli.diagnose:Diagnose", "is it collapsing? a run, or embeddings"),
        "why": Place("cli.why:WhyCommand", "which change brings a run's directions back"),
        "theory": Place("cli.theory:Theory", "the exact dynamics of the paper's theorem"),
        "list": Place("cli.list:List", "every mechanism, data set and reading there is"),
    }
)
"""Where each command lives; only the one that is asked for is loaded."""
WITH_RUN_SETTINGS = ("train", "compare", "bench", "bench verify")
"""The commands that take the settings of a run: recipes, and the options of its parts."""

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
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview())
            return
        if words[0] in ("--version", "-V", "version"):
            print(import_module("importlib.metadata").version("offdiag"))
            return
        status = parse(words).run()
    except OffdiagError as error:
        if _prints_errors():
            print(f"offdiag: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        if _prints_errors():
            print("offdiag: interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if status:
        sys.exit(status)


def overview() -> str:
    """The help of `offdiag` itself."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:{width}}  {place.summary}" for name, place in COMMANDS.items()]
    return "\n".join(
        [
            "Non-contrastive self-supervised learning: train it, watch it, explain it.",
            "",
            "usage: offdiag COMMAND [OPTIONS]",
            "",
            "commands:",
            *lines,
            "",
            "offdiag COMMAND --help lists the options of a command; --version prints the version.",
        ]
    )


def parse(words: Sequence[str]) -> Command:
    """The command that the words spell; help and misspellings end here, as the parser does it."""
    length = 2 if " ".join(words[:2]) in COMMANDS else 1
    named, rest = " ".join(words[:length]), list(words[length:])
    if named not in COMMANDS:
        raise _unknown(named)
    kind = _load(named)
    given: dict[str, Any] = {}
    if named in WITH_RUN_SETTINGS:
        kind, rest, given = _with_run_settings(kind, rest)
    tyro = import_module("tyro")
    command: Command = tyro.cli(kind, prog=f"offdiag {named}", args=rest, **given)
    return command


def _with_run_settings(kind: Any, words: list[str]) -> tuple[Any, list[str], dict[str, Any]]:
    """The command with the options of the parts that the words choose, and a recipe's defaults."""
    parts_of = import_module("offdiag.cli.part_settings")
    default = import_module("offdiag.cli.recipe").chosen_recipe(words)
    config = import_module("offdiag.runs.config").RunConfig() if default is None else default
    base = parts_of.base_config(config, words)
    words = parts_of.expanded(words, base.parts)
    kind = parts_of.with_settings(kind, words, base.parts)
    if default is None:
        return kind, words, {}
    recipe, size = (parts_of.last_value(option, words) for option in ("--recipe", "--size"))
    return kind, words, {"default": kind(config=default, recipe=recipe, size=size)}


def _unknown(named: str) -> OffdiagError:
    checks = import_module("offdiag._checks")
    close = import_module("difflib").get_close_matches(named, COMMANDS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    error: OffdiagError = checks.ConfigError(
        f"there is no command {named!r}: {hint}Choose one of {', '.join(COMMANDS)}."
    )
    return error


def _prints_errors() -> bool:
    """Whether this process is the one to print an error that all processes of a run share."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    return bool(import_module("offdiag.runs.processes").first_to_speak())


def _load(name: str) -> Any:
    module, _, member = COMMANDS[name].where.partition(":")
    return getattr(import_module(f"offdiag.{module}"), member)
