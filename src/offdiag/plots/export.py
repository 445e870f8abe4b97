"""Charts as pictures: PNG, SVG or PDF, made without a browser."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from offdiag._checks import choice
from offdiag._files import make_folder, write_whole
from offdiag.plots.theme import PAPER, Ground, config

WRITERS: Mapping[str, Callable[[dict[str, Any]], bytes]] = {
    ".png": lambda spec: vl_convert.vegalite_to_png(spec, scale=2),
    ".svg": lambda spec: vl_convert.vegalite_to_svg(spec).encode(),
    ".pdf": lambda spec: vl_convert.vegalite_to_pdf(spec),
}


def save_chart(
    chart: alt.TopLevelMixin,
    path: Path,
    *,
    ground: Ground = "light",
    width: int = 520,
    height: int = 300,
) -> None:
    """Write `chart` as a picture of the kind that `path` ends in: .png, .svg or .pdf.

    `width` and `height` (pixels) take the place of sizes that a chart leaves to the
    page it stands on. ConfigError for another ending; the file appears whole.
    """
    write = WRITERS[choice("kind of picture", path.suffix.lower(), WRITERS)]
    spec = chart.to_dict()
    for side, pixels in (("width", width), ("height", height)):
        if spec.get(side) == "container":
            spec[side] = pixels
    spec["config"] = config(ground) | {"background": PAPER[ground]}
    make_folder(path.parent)
    write_whole(path, write(spec))
