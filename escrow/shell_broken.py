"""Broken draws in the DHT: ours are published, a peer's are asked for before we draw with him.

Publishing is a duty that follows from the journal (`store_broken`): an aborted trade that was
not looked at yet is looked at, an entry that was not put lately is put again. Asking never
holds up a trade for longer than two seconds, and a DHT that cannot be reached refuses nobody.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import trio

from escrow.broken import (
    SIDES,
    BrokenDraw,
    DrawRecord,
    Filed,
    fitting,
    numbers_below,
    owed,
    record_of,
)
from escrow.messages import Message
from escrow.shell_desktop import Desktop
from p2pnode.base.errors import InvalidRecord, NodeError, NotFound

log: Final = logging.getLogger(__name__)

LOOK_S: Final = 2.0  # for one number; what has not been found by then is taken not to be there
LOOK_AGAIN_S: Final = 10  # between two looks at the journal
PUTS: Final = 16  # entries put in one round
PROBE: Final = 32  # own numbers looked up at the start, from the next one on
MAX_LEAPS: Final = 8
AT_ONCE: Final = 4  # lookups of one walk


class Board(Protocol):
    """Broken draws in the DHT, unverified."""

    async def put(self, raw: bytes) -> int:
        """Put a filed entry; returns how many nodes hold it."""
        ...

    async def under(self, node_id: bytes, draw_no: int) -> Sequence[bytes]:
        """Return what the network holds under a node's number."""
        ...


class Draws:
    """What this node knows and tells of draws that came to nothing."""

    def __init__(self, world: Desktop, board: Board) -> None:
        self._world, self._board, self._kept = world, board, world.journal.broken
        self.on_lost: Callable[[str], None] = lambda _why: None

    async def run(self) -> None:
        """Leap over numbers used before a restore; then publish for as long as we live."""
        known = False
        while True:
            try:
                known = known or await self.leap(PROBE)
                self.look()
                await self._publish()
            except NodeError as error:
                log.warning("broken draws wait: %s", error)
            await trio.sleep(LOOK_AGAIN_S)

    # -- asking

    async def check(self, message: Message) -> None:
        """Check the number that a TAKE or DRAW states. Raises InvalidRecord naming it."""
        if why := await self.spent(message):
            raise InvalidRecord("draw_no", why)

    async def spent(self, message: Message) -> str:
        """Return why the number of a peer's TAKE or DRAW cannot be drawn with, or nothing."""
        peer, number = message.sender, message.draw_no
        if number < 1:
            return "is not 1 or more"
        for filed in await self._under(peer, number) or ():
            if filed.trade_id != message.trade:
                return f"{number} is entered with another trade already"
        return ""

    async def leap(self, count: int = 1) -> bool:
        """Make sure that none of our next `count` numbers was used before; else jump by 1,000.

        What is entered there bears our signature: our journal is older than our draws. Returns
        whether each number was answered for. Raises what `on_lost` raises, the count unchanged.
        """
        for _ in range(MAX_LEAPS):
            first = self._world.journal.draws_of(self._world.me) + 1
            found = await self._walk(self._world.me, range(first, first + count))
            if not any(found.values()):
                return None not in found.values()
            log.warning("draw %d of ours was entered before: the count jumps", first)
            # First: once we have jumped, nothing shows it any more.
            self.on_lost("the network holds a draw of ours that this node does not know")
            with self._world.journal.database.transaction():
                self._kept.leap()
        return False

    async def record(self, peer: bytes, stated: int = 0) -> DrawRecord:
        """Return what is entered of a peer below the number that he states.

        Raises NotFound if he has stated none to us and none is given.
        """
        stated = stated or self._kept.stated(peer)
        if not stated:
            raise NotFound("no draw with this node lies here: say how many he states")
        return record_of(peer, stated, await self._walk(peer, numbers_below(stated)))

    async def _walk(
        self, node_id: bytes, numbers: Iterable[int]
    ) -> dict[int, tuple[Filed, ...] | None]:
        found: dict[int, tuple[Filed, ...] | None] = {}
        places = trio.CapacityLimiter(AT_ONCE)

        async def look(number: int) -> None:
            async with places:
                found[number] = await self._under(node_id, number)

        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(look, number)
        return found

    async def _under(self, node_id: bytes, draw_no: int) -> tuple[Filed, ...] | None:
        """Return the valid entries under a number; None if nothing was learned of it."""
        raws, heard = self._kept.own(node_id, draw_no), False
        with trio.move_on_after(LOOK_S):
            try:
                raws += await self._board.under(node_id, draw_no)
                heard = True
            except NodeError as error:
                log.info("draw %d of %s is not known: %s", draw_no, node_id.hex()[:16], error)
        found = fitting(raws, self._world.network, node_id, draw_no)
        return found if heard or found else None

    # -- publishing

    def look(self) -> None:
        """Look at aborted trades that were not looked at yet, and write what they owe."""
        if unseen := self._kept.unseen(self._world.clock.now()):
            with self._world.journal.database.transaction():
                for trade_id, began in unseen:
                    self._kept.keep(trade_id, began, self._owed(trade_id))

    def _owed(self, trade_id: bytes) -> BrokenDraw | None:
        try:
            return owed(self._world.journal.messages(trade_id), self._world.me)
        except InvalidRecord as error:  # a number of 0, from before it was refused
            log.info("trade %s is no draw to enter: %s", trade_id.hex()[:16], error)
            return None

    async def _publish(self) -> None:
        for entry in self._kept.due(self._world.clock.now(), PUTS):
            for side in SIDES:
                try:
                    holders = await self._board.put(Filed(side, entry).wire())
                except NodeError as error:
                    log.info("a broken draw was not published: %s", error)
                    return
                if not holders:  # nobody there: at the next round again
                    return
            with self._world.journal.database.transaction():
                self._kept.put(entry.trade_id, self._world.clock.now())
            log.info("published the broken draw of trade %s", entry.trade_id.hex()[:16])
