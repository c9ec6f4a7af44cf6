"""Charts in a terminal: block characters, two heights a cell; plain ones where those cannot go.

A column is a span (low, high) of integers, or None for a gap. Nothing here writes colours:
who prints a chart does, with click, which leaves them out when nobody looks.
"""

import sys
from collections.abc import Callable, Sequence
from shutil import get_terminal_size
from typing import Final

LEAST: Final = 60
MOST: Final = 160

Span = tuple[int, int] | None


def width() -> int:
    """Return how many columns there are to fill: 80 where nobody says."""
    return min(MOST, max(LEAST, get_terminal_size((80, 24)).columns))


def blocks() -> bool:
    """Tell whether stdout can write block characters."""
    try:
        "█▀▄┤│└─".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plot(
    spans: Sequence[Span], low: int, high: int, rows: int, label: Callable[[int], str]
) -> list[str]:
    """Return the lines of a chart, its scale at the left: `low` at the foot, `high` on top."""
    full = 2 * rows
    scale = max(1, high - low)
    filled = [_halves(span, low, scale, full) for span in spans]
    marks = {
        0: label(high),
        rows - 1: label(low),
        rows // 2: label(high - scale * (rows // 2) // rows),
    }
    room = max(map(len, marks.values()))
    tick, side = ("┤", "│") if blocks() else ("+", "|")
    lines = []
    for row in range(rows):
        upper, lower = full - 1 - 2 * row, full - 2 - 2 * row
        cells = (_cell(span, upper, lower) for span in filled)
        edge = tick if row in marks else side
        lines.append(f"{marks.get(row, ''):>{room}} {edge}{''.join(cells)}".rstrip())
    return lines


def axis(lead: int, columns: int, labels: Sequence[str]) -> list[str]:
    """Return the line under a chart and its labels, spread from left to right."""
    corner, line = ("└", "─") if blocks() else ("+", "-")
    text = [" "] * columns
    for i, label in enumerate(labels):
        at = round(i * (columns - len(label)) / max(1, len(labels) - 1))
        text[at : at + len(label)] = label
    return [f"{'':>{lead}} {corner}{line * columns}", f"{'':>{lead}}  {''.join(text)}".rstrip()]


def lead(lines: Sequence[str]) -> int:
    """Return how wide the scale of a chart is."""
    return (
        min(line.index(edge) for line in lines for edge in ("┤", "│", "+", "|") if edge in line) - 1
    )


def joined(spans: Sequence[Span]) -> list[Span]:
    """Let each span reach its neighbour, so that a line has no holes where it jumps."""
    found: list[Span] = []
    last: Span = None
    for span in spans:
        touch = (min(span[0], last[1]), max(span[1], last[0])) if span and last else span
        found.append(touch)
        last = span
    return found


def _halves(span: Span, low: int, scale: int, full: int) -> tuple[int, int] | None:
    """Return the first and last half cell of a span, counted from the foot."""
    if span is None:
        return None
    first = (span[0] - low) * full // scale
    last = (span[1] - low) * full // scale
    return min(full - 1, max(0, first)), min(full - 1, max(0, last))


def _cell(span: tuple[int, int] | None, upper: int, lower: int) -> str:
    if span is None:
        return " "
    above, below = span[0] <= upper <= span[1], span[0] <= lower <= span[1]
    full, top, foot = ("█", "▀", "▄") if blocks() else ("#", "'", ".")
    return full if above and below else top if above else foot if below else " "
