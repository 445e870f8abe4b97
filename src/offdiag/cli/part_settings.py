"""`--method.variance 10`: the options of the parts that a command line chooses.

Which options there are depends on `--method`, `--head` and the other parts, so the words are
looked through before they are parsed. The parts are loaded only if one of their options is
given, or help is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, make_dataclass, replace
from typing import Annotated, Any

from tyro.conf import arg

from offdiag._checks import ConfigError
from offdiag.registry import PARTS, Setting, settings_of
from offdiag.runs.config import FIELD_OF, MOVED, RunConfig

HELP = ("-h", "--help")


def last_value(option: str, words: Sequence[str]) -> str | None:
    """The word that follows `option`, or what is behind its equals sign; the last one counts."""
    found = None
    for word, following in zip(words, [*words[1:], None], strict=False):
        if word == option:
            found = following
        elif word.startswith(option + "="):
            found = word.partition("=")[2]
    return found


def base_config(default: RunConfig, words: Sequence[str]) -> RunConfig:
    """`default` with the parts that the words choose, for looking up their settings."""
    chosen: dict[str, Any] = {}
    for kind in PARTS:
        name = FIELD_OF.get(kind, kind)
        if name in RunConfig.__dataclass_fields__ and kind != "objective":
            value = last_value("--" + name.replace("_", "-"), words)
            if value is not None:
                chosen[name] = value
    method = chosen.get("method", default.method)
    if method != default.method:
        chosen["settings"] = {}
    return replace(default, **chosen)


def expanded(words: Sequence[str], parts: Mapping[str, str]) -> list[str]:
    """The words with each part's own name (`--vicreg.variance`) put as its kind (`--method.`).

    So are the options of the first version that belong to the method now.
    """
    kinds = {name: kind for kind, name in reversed(list(parts.items())) if kind != "objective"}
    found = []
    for word in words:
        option, equals, value = word.partition("=")
        prefix, dot, rest = option.removeprefix("--").partition(".")
        if option.startswith("--") and dot and prefix in kinds and prefix not in PARTS:
            word = f"--{kinds[prefix]}.{rest}{equals}{value}"
        elif option.removeprefix("--").replace("-", "_") in MOVED and option.startswith("--"):
            word = f"--method.{option[2:]}{equals}{value}"
        found.append(word)
    return found


def with_settings(command: type, words: Sequence[str], parts: Mapping[str, str]) -> type:
    """`command` with an option for each setting of the parts; ConfigError for one there is not."""
    given = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
    dotted = [name for name in given if "." in name and name.partition(".")[0] in PARTS]
    if not dotted and not any(word in HELP for word in words):
        return command
    known = {kind: settings_of(kind, name) for kind, name in parts.items() if kind != "objective"}
    for name in dotted:
        kind, _, setting = name.partition(".")
        _refuse_unknown(kind, setting.replace("-", "_"), parts, known)
    groups = {kind: _group(kind, own) for kind, own in known.items() if own}
    grown = make_dataclass(
        command.__name__,
        [(kind, group, field(default_factory=group)) for kind, group in groups.items()],
        bases=(command,),
        frozen=True,
        kw_only=True,
    )
    grown.__doc__ = command.__doc__
    return grown


def configured(command: Any) -> RunConfig:
    """The command's settings of a run, those of the parts put in."""
    config: RunConfig = command.config
    options = {
        item.name: asdict(getattr(command, item.name))
        for item in fields(command)
        if item.name in PARTS
    }
    return replace(config, settings=options) if options else config


def _group(kind: str, settings: Sequence[Setting]) -> type:
    return make_dataclass(
        f"{kind.capitalize()}Settings",
        [
            (one.name, Annotated[one.type, arg(help=one.help)], field(default=one.default))
            for one in settings
        ],
        frozen=True,
        kw_only=True,
    )


def _refuse_unknown(
    kind: str, setting: str, parts: Mapping[str, str], known: Mapping[str, Sequence[Setting]]
) -> None:
    option = f"--{kind}.{setting.replace('_', '-')}"
    if kind not in known:
        raise ConfigError(f"{parts['method']} has no {kind}: drop {option}.")
    names = [one.name for one in known[kind]]
    if setting not in names:
        has = ", ".join(f"--{kind}.{name.replace('_', '-')}" for name in names) or "none"
        raise ConfigError(
            f"{option} is no setting of {parts[kind]}; its settings: {has}. "
            f"`offdiag list {kind}s` shows those of the others."
        )
