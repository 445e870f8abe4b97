"""One look for every chart: type, sizes, and colours that hold in light and in dark."""

from collections.abc import Mapping
from typing import Any, Literal

Ground = Literal["light", "dark", "either"]

# Okabe-Ito's order and hues, for colour-blind readers, with the light ones deepened: each
# has at least 3:1 against white and against the page's near-black (a test holds it).
PALETTE = ("#0072B2", "#C77C00", "#009E73", "#C0689A", "#D55E00", "#6C7A89", "#2E97C9", "#8F8A00")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

INK: Mapping[Ground, str] = {"light": "#4b5058", "dark": "#b3b9c2", "either": "#757b84"}
PAPER: Mapping[Ground, str] = {"light": "#ffffff", "dark": "#14161a", "either": "transparent"}
"""Labels and axis lines, and the ground they stand on; `either` is readable on both."""

DIVERGING: Mapping[Ground, tuple[str, ...]] = {
    "light": ("#053f73", "#2f7fbd", "#a9cfe8", "#ffffff", "#f6c590", "#d17a1c", "#7d3a00"),
    "dark": ("#9fd3ff", "#3f93d3", "#1d4a70", "#14161a", "#6e4210", "#d98a33", "#ffd9a3"),
    "either": ("#05579c", "#2f7fbd", "#84b7dc", "#8a8f98", "#e9b16f", "#d17a1c", "#a24c00"),
}
"""Blue below 0, orange above; 0 has the colour of the ground, so what stands out is not 0."""
SEQUENTIAL = "viridis"


def config(ground: Ground = "either") -> dict[str, Any]:
    """The Vega-Lite config shared by all charts; the ground is left transparent for the page."""
    ink = INK[ground]
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink,
            "labelFontSize": 11,
            "titleColor": ink,
            "titleFontSize": 11.5,
            "titleFontWeight": "normal",
            "titlePadding": 9,
            "domainColor": ink,
            "domainOpacity": 0.5,
            "tickColor": ink,
            "tickOpacity": 0.5,
            "tickSize": 4,
            "gridColor": ink,
            "gridOpacity": 0.14,
        },
        "legend": {
            "labelColor": ink,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "orient": "top",
            "title": None,
        },
        "title": {"color": ink, "fontWeight": "normal", "anchor": "start"},
        "header": {"labelColor": ink, "titleColor": ink},
        "rule": {"color": ink},
        "text": {"color": ink},
        "line": {"strokeWidth": 1.8},
        "range": {
            "category": list(PALETTE),
            "diverging": {"scheme": list(DIVERGING[ground])},
            "heatmap": {"scheme": SEQUENTIAL},
            "ramp": {"scheme": SEQUENTIAL},
        },
    }
