"""One look for every chart: type, sizes, and colours that hold in light and in dark."""

from typing import Any

# Okabe-Ito: distinct for colour-blind readers, and on white as on near-black.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442")
DIVERGING = "blueorange"
SEQUENTIAL = "viridis"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#8a8f98"  # axis lines and labels: readable on both grounds


def config() -> dict[str, Any]:
    """The Vega-Lite config shared by all charts; the ground is left transparent for the page."""
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": INK,
            "titleColor": INK,
            "domainColor": INK,
            "tickColor": INK,
            "gridColor": INK,
            "gridOpacity": 0.18,
            "titleFontWeight": "normal",
        },
        "legend": {"labelColor": INK, "titleColor": INK, "orient": "top", "title": None},
        "title": {"color": INK, "fontWeight": "normal", "anchor": "start"},
        "header": {"labelColor": INK, "titleColor": INK},
        "range": {"category": list(PALETTE)},
    }
