"""Draws charts as SVG files: `python -m tests.bench.simulation.draw CHARTS.json FOLDER`, where there is matplotlib.

The charts are those of `charts.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import ticker

mpl.use("svg")
# Text stays text, so it can be read and searched; the same data gives the same file.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "arriero", "font.family": "sans-serif", "font.size": 10})

from matplotlib import pyplot as plt  # noqa: E402 # the backend is chosen before

COLOURS = ("#b5460f", "#e8a27c", "#4a5a6a", "#a9b4bf")
WIDTH_INCHES, LINES_INCHES, ROW_INCHES, FRAME_INCHES = 8.5, 4.5, 0.62, 1.4


def number(value: float, _: object = None) -> str:
    return f"{value:,g}"


def lines(chart: dict[str, Any], axes: Any) -> None:
    for colour, series in zip(COLOURS, chart["series"], strict=False):
        axes.plot(series["x"], series["y"], color=colour, marker="o", markersize=3, label=series["label"])
    for label, x in chart["marks"]:
        axes.axvline(x, color="black", linewidth=0.8, linestyle="--")
        axes.annotate(f"{label}: {x:.1f}", (x, axes.get_ylim()[1]), xytext=(4, -10), textcoords="offset points",
                      fontsize=8)  # fmt: skip
    if chart["is_log"]:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(number)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(ticker.NullFormatter())
        axes.set_xticks(chart["series"][0]["x"], [number(x) for x in chart["series"][0]["x"]], fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)


def bars(chart: dict[str, Any], axes: Any) -> None:
    names = chart["series"][0]["x"]
    height = 0.8 / len(chart["series"])
    for index, (colour, series) in enumerate(zip(COLOURS, chart["series"], strict=False)):
        at = [row + (index - (len(chart["series"]) - 1) / 2) * height for row in range(len(names))]
        found = axes.barh(at, series["y"], height, color=colour, label=series["label"])
        axes.bar_label(found, [f"{value:.3g}" for value in series["y"]], padding=3, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)  # room for values and legend
    axes.grid(axis="x", alpha=0.3)
    if len(chart["series"]) > 1:
        axes.legend(fontsize=8, frameon=False)


def draw(chart: dict[str, Any], folder: Path) -> None:
    """One file, named for the chart."""
    rows = len(chart["series"][0]["x"])
    inches = LINES_INCHES if chart["kind"] == "lines" else FRAME_INCHES + ROW_INCHES * rows
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, inches), layout="constrained")
    {"lines": lines, "bars": bars}[chart["kind"]](chart, axes)
    axes.set_title(chart["title"], loc="left", fontweight="bold")
    axes.set_xlabel(f"{chart['x']}\n{chart['stamp']}", fontsize=8)
    axes.set_ylabel(chart["y"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    figure.savefig(folder / f"{chart['name']}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    data, folder = Path(sys.argv[1]), Path(sys.argv[2])
    charts = json.loads(data.read_text())
    for each in charts:
        draw(each, folder)
    print(json.dumps({"drawn": len(charts)}))
