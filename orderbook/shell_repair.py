"""What two books have in common, found in few round trips, and what one lacks fetched.

    digest of the whole -> parts that differ -> digest of those -> … -> few offers: fetched

A part is fetched whole when it holds few offers, when we have nothing there, or when more than
half of the parts around it differ: then looking closer costs more than it saves.
"""

from typing import Final

from orderbook.shell_source import Compared, Session
from p2pnode.base import ranges
from p2pnode.base.ranges import Item

FEW: Final = 24  # offers of a range that is fetched rather than parted again


async def repair(session: Session, ours: list[Item]) -> Compared:
    """Make our book, which holds `ours`, hold what a source has. Raises what the session raises.

    Returns what the source lacks of `ours`.
    """
    to_ask: list[tuple[bytes, bytes]] = [(b"", b"")]
    lacks, news = set[bytes](), 0
    while to_ask:
        low, high = to_ask.pop()
        told = await session.digest(low, high)
        found = list(ranges.differing(ours, low, told))
        closely = 2 * len(found) <= len(told)
        for start, end, count in found:
            held = {hashed for _, hashed in ranges.inside(ours, start, end)}
            if not count:
                lacks |= held
            elif held and closely and count > FEW and (start, end) != (low, high):
                to_ask.append((start, end))
            else:
                fetched = await session.fetch(start, end)
                news += fetched.news
                lacks |= held - fetched.hashes
    return Compared(frozenset(lacks), news)
