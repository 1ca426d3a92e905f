"""Draws docs/performance.svg from figures on stdin.  Run by the peers' interpreter, which has matplotlib."""

from __future__ import annotations

import json
import sys

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

OURS, FLOOR, OTHERS, LIMIT = "#1f6f54", "#555555", "#9db4c0", "#b23a48"

found = json.load(sys.stdin)
mpl.rcParams |= {"svg.hashsalt": "tickstorm", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")

bars = sorted(found["bars"].items(), key=lambda bar: -bar[1])
colours = [{"Tickstorm": OURS, "C floor": FLOOR}.get(name, OTHERS) for name, _ in bars]
drawn = left.barh([name for name, _ in bars], [value for _, value in bars], color=colours)
left.bar_label(drawn, fmt="%.1f", padding=3)
left.set_xlabel("CPU seconds per million, 1,000 × 20/s (less is better)")
left.margins(x=0.12)

curve = sorted(found["curve"])
right.plot([rate / 1000 for rate, _ in curve], [cpu for _, cpu in curve], "o", markersize=4, color=OURS)
right.axhline(95, color=LIMIT, linewidth=1, linestyle="--")
right.set_xlabel("1,000 deliveries per second, flushed one by one, one worker")
right.set_ylabel("CPU of one core, %")
right.set_ylim(0, 105)
right.set_xlim(0, 1.08 * max((rate / 1000 for rate, _ in curve), default=1))
figure.savefig(sys.stdout.buffer, format="svg", metadata={"Date": None, "Creator": None})
