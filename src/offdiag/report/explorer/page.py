"""The explorer: the theory lab as one page that computes everything itself.

`assemble` puts the scripts beside this file, the coefficients of the integrator and the grid
of the phase diagram into one template. The page's policy names each script and the style by
their hashes; a worker is made of the same script as the page, so nothing else can run.
"""

import base64
import hashlib
import json
from pathlib import Path

import jinja2
from markupsafe import Markup

from offdiag._checks import RunError
from offdiag._files import make_folder, write_whole
from offdiag.theory import rodas5p

FOLDER = Path(__file__).parent

MODEL = ("random", "kernels", "wen_li", "worker")
"""The scripts that the page and its worker share, in their order; none knows the page."""
APP = (
    "dormand_prince",
    "linear_byol",
    "isoloss",
    "direct_set",
    "self_predictive",
    "state",
    "charts",
    "story",
    "pictures",
    "theorem",
    "diagram",
    "theories",
    "app",
)
"""The scripts of the page alone: the other dynamics, the state, the pictures, the glue."""
TABS = (("theorem", "One start"), ("diagram", "Phase diagram"), ("theories", "Other theories"))


def write_explorer(out: Path) -> None:
    """Write the page to the file `out`, whole or not at all; its folder is made if missing."""
    if out.is_dir():
        raise RunError(f"cannot write {out}: it is a folder. Give the name of a file in it.")
    make_folder(out.parent)
    write_whole(out, assemble())


def assemble() -> str:
    """The whole page as HTML."""
    style = _read("explorer.css")
    model, app = _coefficients() + _scripts(MODEL), _scripts(APP)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template("explorer.html.j2").render(
        style=_inlined(style),
        style_hash=_hash(style),
        model=_inlined(model),
        app=_inlined(app),
        script_hashes=[_hash(model), _hash(app)],
        grid=_inlined(_read("grid.json").strip()),
        tabs=TABS,
    )
    return page


def _coefficients() -> str:
    """Rodas5P as the Python kernels have it: one table for both."""
    table = {"GAMMA": rodas5p.GAMMA, "A": rodas5p.A.tolist(), "C": rodas5p.C.tolist()}
    return f"const rodas5p = {json.dumps(table, separators=(',', ':'))};\n"


def _scripts(names: tuple[str, ...]) -> str:
    return "".join(_read(f"{name}.js") for name in names)


def _read(name: str) -> str:
    # A browser reads \r\n as \n, and would then find another hash than ours.
    return (FOLDER / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _inlined(text: str) -> Markup:
    """Code of our own, put into the page as it is; it must not end its own tag."""
    assert "</script" not in text.lower() and "</style" not in text.lower()
    return Markup(text)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
