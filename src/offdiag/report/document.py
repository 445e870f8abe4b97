"""What every page of ours is made of: the template, the chart library, charts as JSON, the policy.

Names from outside are escaped by the template; the charts' JSON is escaped so that no
name can end its script tag; and a page's policy lets only the scripts written here run.
"""

import base64
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup

from offdiag._checks import RunError
from offdiag._files import make_folder, write_whole
from offdiag.plots import theme


def render(template: str, **values: Any) -> str:
    """The named template with `values`, and with what all pages share: style, scripts, grounds."""
    page = _template(template).render(
        grounds={ground: theme.config(ground) for ground in ("light", "dark")},
        style=_beside("page.css"),
        library=_library(),
        script=_beside("page.js"),
        hashes=[_hash(_library()), _hash(_beside("page.js"))],
        **values,
    )
    return writable(page)


def write_page(page: str, out: Path) -> None:
    """Write a page to the file `out`, whole or not at all; its folder is made if missing.

    RunError says what the system refused.
    """
    if out.is_dir():
        raise RunError(f"cannot write {out}: it is a folder. Give the name of a file in it.")
    make_folder(out.parent)
    write_whole(out, page)


def writable(text: str) -> str:
    """Text without the stray surrogates that a file name may hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def chart_spec(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """The chart as JSON can hold it; the page brings the configuration and the schema."""
    spec = _finite(chart.to_dict())
    spec.pop("$schema", None)
    return {key: value for key, value in spec.items() if key != "config"} | {
        "config": _without_colours(spec.get("config", {}))
    }


def _without_colours(config: Mapping[str, Any]) -> dict[str, Any]:
    """A chart's own configuration, less what the page's light and dark decide."""
    ours = theme.config()
    return {key: value for key, value in config.items() if key not in ours}


def _finite(value: Any) -> Any:
    """The same value with null for every number that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {writable(str(key)): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return writable(value) if isinstance(value, str) else value


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["chart_json"] = _script_json
    return environment.get_template(name)


def _script_json(value: Any) -> Markup:
    """JSON for a script tag: without < > & no text in it can end the tag or open a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@functools.cache
def _library() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as one script, as they come with vl-convert."""
    # A browser reads \r\n as \n, and would then find another hash than ours.
    return _inlined(
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("\r\n", "\n")
    )


@functools.cache
def _beside(name: str) -> Markup:
    return _inlined((Path(__file__).parent / name).read_text(encoding="utf-8"))


def _inlined(text: str) -> Markup:
    """Code of our own choosing, put into the page as it is; it must not end its own tag."""
    assert "</script" not in text.lower() and "</style" not in text.lower()
    return Markup(text)


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
