"""The steps of the pipeline as a picture: layers and places by networkx, drawn by matplotlib.

As a command it reads what `svg` takes as JSON and writes the picture: a page's kernel loads no matplotlib, for memory.
"""

import io
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# White words are read on them, and they are seen on white and on black.
COLOURS = {
    "to do": "#6b7280",
    "running": "#1d5fd0",
    "done": "#15803d",
    "up to date": "#4d7c5f",
    "failed": "#c62828",
    "broken off": "#c62828",
    "left out": "#8a6100",
    "waiting": "#8a6100",
}
_LINE = "#808894"
_WIDE, _HIGH = 1.9, 0.95  # inches of a step's place


def graph(needs: Mapping[str, Sequence[str]], states: Mapping[str, str]) -> Figure:
    """Return the steps below each other, each under what it needs, coloured by its state.

    Args:
        needs: Step to the steps before it.
        states: Step to its state, see `Run`; one without is not of the run.
    """
    drawn = nx.DiGraph([(before, name) for name, needed in needs.items() for before in needed])
    drawn.add_nodes_from(needs)
    layers = _ordered(drawn)
    placed = nx.multipartite_layout(drawn, dict(enumerate(layers)), align="horizontal")
    places = {name: place * (1, -1) for name, place in placed.items()}
    widest = max(len(names) for names in layers)
    figure = Figure(figsize=(max(2, widest) * _WIDE, len(layers) * _HIGH))
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for name in needs:
        _draw_step(axes, drawn, places, (name, states.get(name, "")))
    nx.draw_networkx_edges(drawn, places, ax=axes, edge_color=_LINE, width=1.6, node_size=1900, arrowsize=15)
    axes.margins(x=0.5 / widest + 0.15, y=0.4 / len(layers))
    return figure


def _ordered(drawn: nx.DiGraph) -> list[list[str]]:
    """Return the layers from the top down, each step near the middle of what it needs, so that fewer arrows cross."""
    layers: list[list[str]] = []
    at: dict[str, float] = {}
    for names in nx.topological_generations(drawn):
        before = {name: [at[other] for other in drawn.predecessors(name)] or [0.5] for name in names}
        layers.append(sorted(names, key=lambda name, before=before: sum(before[name]) / len(before[name])))  # type: ignore[misc]
        at |= {name: (place + 0.5) / len(names) for place, name in enumerate(layers[-1])}
    return layers


def svg(needs: Mapping[str, Sequence[str]], states: Mapping[str, str]) -> str:
    """Return the picture as SVG with a ground that is seen through, its words as words."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rowmill", "font.family": "sans-serif"}):
        graph(needs, states).savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return "<svg" + file.getvalue().partition("<svg")[2]


def _draw_step(axes: Axes, drawn: nx.DiGraph, places: Mapping[str, Any], told: tuple[str, str]) -> None:
    name, state = told
    colour = COLOURS.get(state, "none")
    label = "\n".join([*textwrap.wrap(name, 16), state or "not in this run"])
    box = {"boxstyle": "round,pad=0.6,rounding_size=0.35", "facecolor": colour, "edgecolor": _LINE if colour == "none" else "none"}
    words = _LINE if colour == "none" else "white"
    nx.draw_networkx_labels(drawn.subgraph([name]), places, {name: label}, ax=axes, font_size=10, font_color=words, bbox=box)


if __name__ == "__main__":
    sys.stdout.write(svg(**json.load(sys.stdin)))
