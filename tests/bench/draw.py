"""Draws charts as SVG files: `python -m tests.bench.draw CHARTS.json FOLDER`, in an environment with matplotlib.

The charts are those of `plots.py`: a dot for each median, since a bar's length means nothing on a logarithmic axis, a
stroke from the least to the most of the runs, the value beside.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# Text stays text, so it can be read and searched; the same data gives the same file.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "arriero", "font.family": "sans-serif", "font.size": 10})

from matplotlib import pyplot as plt  # noqa: E402 # the backend is chosen before
from matplotlib import ticker  # noqa: E402

SUBJECT, OTHERS = ("#b5460f", "#e8a27c"), ("#4a5a6a", "#a9b4bf")
"""Colours of the first and the second series."""
SERIES_GAP = 0.36
"""Of a peer's two dots, in rows."""
ROW_INCHES, FRAME_INCHES, WIDTH_INCHES = 0.5, 1.5, 8.0


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def draw(chart: dict[str, Any], folder: Path) -> None:
    """One file, named for the chart."""
    names = [bar["who"] for bar in chart["series"][0][1]]
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, FRAME_INCHES + ROW_INCHES * len(names)), layout="constrained")
    for index, (label, bars) in enumerate(chart["series"]):
        for bar in bars:
            at = names.index(bar["who"]) + (0.5 * (len(chart["series"]) - 1) - index) * SERIES_GAP
            colour = (SUBJECT if bar["is_subject"] else OTHERS)[index]
            axes.plot([bar["low"], bar["high"]], [at, at], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot(bar["median"], at, "o", color=colour, markersize=7)
            text = number(bar["median"]) + (f" {label}" if len(chart["series"]) > 1 else "")
            axes.annotate(
                text, (bar["high"], at), xytext=(7, 0), textcoords="offset points",
                verticalalignment="center", fontsize=8,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_yticks(range(len(names)), names)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.3)  # room for the values
    axes.set_title(chart["title"], loc="left", fontweight="bold")
    axes.set_xlabel(f"{chart['axis']}\n{chart['stamp']}", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(which="major", alpha=0.3)
    axes.set_axisbelow(True)
    figure.savefig(folder / f"{chart['name']}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    data, folder = Path(sys.argv[1]), Path(sys.argv[2])
    charts = json.loads(data.read_text())
    for each in charts:
        draw(each, folder)
    print(json.dumps({"drawn": len(charts)}))
