"""The first sync of an empty book: each source sends its share of the market.

source ─┬─ lane: take a part, fetch it, take the next …        `shares` says which
        └─ lane                                                done: whoever still sends is left
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from orderbook.shares import Share, Shares
from orderbook.shell_source import Session, Source
from p2pnode.base.errors import NodeError
from p2pnode.base.ranges import Part

LANES: Final = 2  # parts of the market under way from one source, so that its pipe stays full
SHARE_S: Final = 30.0  # for the whole market
LOOK_S: Final = 0.2  # between looks for a part that is late

Job = Callable[[Session], Awaitable[None]]
Told = tuple[str, list[Part]]  # the host a source spoke from, and what it says that it holds


async def share_out(
    sources: Sequence[Source], ask: Callable[[Source, Job], Awaitable[bool]]
) -> dict[bytes, Told]:
    """Have all parts of a market fetched; `ask` does a job with a source and says if it went well.

    Returns when every part has come, when no source is left, or after SHARE_S: what the sources
    say that they hold, which each is asked on the way.
    """
    shares, moved = Shares(len(sources), trio.current_time()), trio.Condition()
    told: dict[bytes, Told] = {}

    async def fetch(opened: Session, share: Share) -> None:
        try:
            await opened.fetch(share.low, share.high)
            shares.came(share)
        except NodeError:
            shares.failed(share, opened.peer)
            raise
        finally:
            with trio.CancelScope(shield=True):
                async with moved:
                    moved.notify_all()

    async def lane(opened: Session) -> None:
        while not shares.done:
            share = shares.take(opened.peer, trio.current_time())
            if share is not None:
                await fetch(opened, share)
                continue
            with trio.move_on_after(LOOK_S):
                async with moved:
                    await moved.wait()

    async def digest(opened: Session) -> None:
        told[opened.peer] = opened.host, await opened.digest()

    async def send(opened: Session) -> None:
        faults: list[NodeError] = []
        async with trio.open_nursery() as nursery:

            async def one(job: Callable[[Session], Awaitable[None]]) -> None:
                try:
                    await job(opened)
                except NodeError as error:
                    faults.append(error)
                    nursery.cancel_scope.cancel()  # the other waits for what follows a fault

            for job in (*[lane] * LANES, digest):
                nursery.start_soon(one, job)
        if faults:
            raise faults[0]

    with trio.move_on_after(SHARE_S):
        async with trio.open_nursery() as nursery:

            async def one(source: Source) -> None:
                if await ask(source, send):
                    nursery.cancel_scope.cancel()  # whoever still sends, sends what is here
                else:
                    shares.left(source.node_id)

            for source in sources:
                nursery.start_soon(one, source)
    return told
