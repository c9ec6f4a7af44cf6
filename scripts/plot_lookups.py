"""Measure lookups in simulated networks of 100 to 10,000 nodes; draw docs/lookup-cost.svg.

`--rows FILE` draws from the JSON lines that `make soak` has printed instead of measuring anew.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "lookup-cost.svg"
WIDTH, HEIGHT = 860, 400
PANEL, TOP, BOTTOM, LEFT = 350, 92, 320, 60  # a panel's width and its plot's edges
INK, MUTED, GRID = "#1f2933", "#616e7c", "#e4e7eb"
LINES = {"messages_a_lookup": "#0b69a3", "hops": "#b44d12"}
STYLE = "font-family:Helvetica,Arial,sans-serif"

Row = dict[str, Any]


def measured(seed: int) -> list[Row]:
    """Simulate each size; print its figures as one JSON line."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    import dht_sim_long

    rows = []
    for count in dht_sim_long.SIZES:
        rows.append(dht_sim_long.measure(seed, count))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def told(path: Path) -> list[Row]:
    """Return the rows of a soak's output that are about growth."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("{")]
    rows = [row for row in map(json.loads, lines) if "without faults" in row.get("run", "")]
    return sorted(rows, key=lambda row: row["nodes"])


def text(x: float, y: float, words: str, *, size: int = 12, fill: str = INK, more: str = "") -> str:
    """Return a text element."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" {more}>{words}</text>'


def panel(rows: list[Row], name: str, title: str, left: float, top: float, step: float) -> str:
    """Return one plot of `name` against log2 n; its y axis goes from 0 to `top`."""
    low, high = (math.log2(rows[i]["nodes"]) for i in (0, -1))

    def x(nodes: float) -> float:
        return left + 14 + (PANEL - 48) * (math.log2(nodes) - low) / (high - low)

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * value / top

    parts = [text(left, TOP - 18, title, size=14, more='font-weight="bold"')]
    for number in range(round(top / step) + 1):
        at = y(number * step)
        parts.append(f'<path d="M{left} {at:.1f}h{PANEL - 20}" stroke="{GRID}"/>')
        label = f"{number * step:g}"
        parts.append(text(left - 8, at + 4, label, fill=MUTED, more='text-anchor="end"'))
    for row in rows:
        at = x(row["nodes"])
        parts.append(f'<path d="M{at:.1f} {BOTTOM}v5" stroke="{MUTED}"/>')
        label = f"{row['nodes']:,}"
        parts.append(text(at, BOTTOM + 20, label, fill=MUTED, more='text-anchor="middle"'))
    middle = left + (PANEL - 20) / 2
    axis = "nodes n (logarithmic)"
    parts.append(text(middle, BOTTOM + 42, axis, fill=MUTED, more='text-anchor="middle"'))
    first, last = rows[0], rows[-1]
    bound = first[name] * high / low
    ends = f"M{x(first['nodes']):.1f} {y(first[name]):.1f}L{x(last['nodes']):.1f} {y(bound):.1f}"
    parts.append(f'<path d="{ends}" stroke="{MUTED}" stroke-dasharray="5 4" fill="none"/>')
    parts.append(
        text(x(last["nodes"]), y(bound) - 8, "∝ log₂ n", fill=MUTED, more='text-anchor="end"')
    )
    spots = [(x(row["nodes"]), y(row[name])) for row in rows]
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in spots)
    parts.append(f'<path d="{path}" stroke="{LINES[name]}" stroke-width="2.2" fill="none"/>')
    for (a, b), row in zip(spots, rows, strict=True):
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{LINES[name]}"/>')
        label = f"{row[name]:.1f}"
        more = 'text-anchor="middle" font-weight="bold"'
        parts.append(text(a, b + 20, label, fill=LINES[name], more=more))
    return "\n".join(parts)


def drawn(rows: list[Row]) -> str:
    """Return the picture."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" style="{STYLE}" role="img">\n'
        "<title>Messages and hops of a lookup against the number of nodes</title>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    )
    title = "What a lookup of the 20 closest nodes costs as the network grows"
    foot = (
        f"Seeded simulation of the node's own lookup and routing table (seed {rows[0]['seed']}), "
        "k = 20, no faults; mean of 400 lookups at each size."
    )
    return "\n".join(
        (
            head,
            text(24, 36, title, size=17, more='font-weight="bold"'),
            panel(rows, "messages_a_lookup", "Messages per lookup", LEFT, 100, 20),
            panel(rows, "hops", "Hops to the farthest answer", LEFT + PANEL + 60, 5, 1),
            text(24, HEIGHT - 14, foot, fill=MUTED),
            "</svg>\n",
        )
    )


def main() -> None:
    """Measure or read, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, help="output of make soak")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rows = told(options.rows) if options.rows else measured(options.seed)
    PICTURE.write_text(drawn(rows))
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
