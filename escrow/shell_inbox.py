"""What peers say: from bytes off an authenticated stream to an applied message and a reply.

    reply = [status, text]   0 applied (or known), 1 not yet: send it again, 2 refused,
                             3 refused: another message of this number was signed before

Checks come in the order of their cost, and all before anything changes: form and signature,
the sender is whom the stream authenticated, the place in the chain, then `examine`, then the
machine. A refusal leaves a log line that says what was refused, and nothing else.
"""

import logging
from typing import Final

from escrow.errors import DataLost, NotYet, NumberUsed
from escrow.examine import check_seen, examine
from escrow.examine_settling import Examined, World
from escrow.messages import FRESH_STEP, ZERO, Kind, Message
from escrow.model import Cancel, LoseTrust, Received, Taking, Toxic
from escrow.opening import EARLY_STATES
from escrow.payloads import Take, decode
from escrow.shell_bargain import Bargains
from escrow.shell_cases import Cases
from escrow.shell_opening import Opening
from escrow.shell_trades import Trades
from escrow.store_journal import ARBITER, Row
from escrow.transcript import begins_afresh
from p2pnode.base import wire
from p2pnode.base.errors import (
    InvalidRecord,
    NodeError,
    PeerFault,
    SecondOpinionDiffers,
    StorageFault,
    Unreachable,
)
from p2pnode.base.transaction import Outpoint

log: Final = logging.getLogger(__name__)

_SIGNED: Final = frozenset({Kind.RECEIVED, Kind.SETTLE, Kind.FORWARD, Kind.VERDICT})

APPLIED: Final = 0
LATER: Final = 1
REFUSED: Final = 2
USED: Final = 3  # refused, and the sender has lost data: his number was used before
MAX_REPLY: Final = 1024


def reply(status: int, text: str = "") -> bytes:
    """Return a reply's bytes."""
    return wire.pack((status, wire.clipped(text, 600)))


def read_reply(raw: bytes) -> tuple[int, str]:
    """Parse a reply. Raises InvalidRecord."""
    status, text = wire.fields("reply", wire.unpack("reply", raw, limit=MAX_REPLY), 2)
    return wire.within("status", status, APPLIED, USED), wire.text("text", text, 700)


class Inbox:
    """Applies peers' messages to trades and cases."""

    def __init__(self, trades: Trades, opening: Opening, bargains: Bargains) -> None:
        self._trades = trades
        self._bargains = bargains
        self._opening = opening
        self._world = trades.world
        self._cases = Cases(trades)

    async def deliver(self, raw: bytes, peer: bytes) -> bytes:
        """Apply one message from the authenticated `peer`; returns the reply's bytes."""
        try:
            message = Message.from_wire(raw, self._world.network)
            if message.sender != peer or message.recipient != self._world.me:
                raise PeerFault("sender: is not whom the connection authenticates")
            if self._world.journal.known(message.id):
                return reply(APPLIED)
            try:
                await self._apply(message)
            except SecondOpinionDiffers as error:  # ours to mend, and the peer's to try again
                self._trades.stall(message.trade, str(error))
                raise NotYet(str(error)) from None
        except (NotYet, Unreachable, StorageFault) as error:
            log.info("not yet from %s: %s", peer.hex()[:16], error)
            return reply(LATER, str(error))
        except NumberUsed as error:
            log.warning("refused from %s: %s", peer.hex()[:16], error)
            return reply(USED, str(error))
        except NodeError as error:
            log.warning("refused from %s: %s", peer.hex()[:16], error)
            return reply(REFUSED, str(error))
        return reply(APPLIED)

    async def _apply(self, message: Message) -> None:
        payload = decode(message.kind, message.payload)
        if isinstance(payload, Take):
            await self._opening.answer(message, payload)
            return
        if message.trade == ZERO:  # PROPOSE, COUNTER, and a REFUSE to them
            self._bargains.hear(message, payload)
            return
        row = self._world.journal.row(message.trade)
        if row is None and message.kind is Kind.DISPUTE:
            await self._cases.open(message)
            return
        if row is None:
            raise PeerFault("trade_id: is no trade here")
        rate = await self._opening.own_rate()
        drawn = message.kind is Kind.DRAW and isinstance(row.state, Taking)
        spent = await self._opening.draws.spent(message) if drawn else ""
        # Nothing below awaits: what is compared here is what is committed.
        if self._world.journal.known(message.id):
            return  # it came twice, and was applied while we asked
        row = self._trades.row(message.trade)
        messages = self._world.journal.messages(row.trade_id)
        if row.role == ARBITER:
            check_place(message, messages)
            self._cases.hear(message, payload, row)
            return
        row = self._seen(message, messages, row)
        check_place(message, messages, gaps=isinstance(row.state, Toxic))
        facts = self._trades.facts(row).having(message)
        world = World(
            bench=self._trades.bench(row),
            tip_height=self._world.chain.tip().height,
            merkle_root=self._world.chain.merkle_root,
            own_rate=rate,
            is_ours=self._world.purse.owns,
            is_busy=lambda point: self._busy(row, point),
            check_account=self._world.desk.check,
        )
        try:
            examined = examine(message, payload, facts, world)
        except (InvalidRecord, PeerFault) as error:
            if not isinstance(row.state, Toxic) or message.kind in _SIGNED:
                raise
            log.info("kept, though it names what is lost: %s", error)
            examined = Examined()
        if spent:  # a DRAW that is right in all else; once we have ended, this does nothing
            self._trades.advance(row.trade_id, Cancel(f"draw_no: {spent}"))
            raise PeerFault(f"draw_no: {spent}")
        event = Received(message, examined.payload or payload, examined.final, examined.raised)
        self._trades.advance(row.trade_id, event, records=examined.records)

    def _busy(self, row: Row, point: Outpoint) -> bool:
        return self._world.journal.bound_elsewhere(row.trade_id, point)

    def _seen(self, message: Message, messages: tuple[Message, ...], row: Row) -> Row:
        """Check `seen`. One that names no message of ours tells that we have lost data."""
        if isinstance(row.state, Toxic):
            return row
        try:
            check_seen(message, messages, self._world.me)
        except DataLost as error:
            if isinstance(row.state, EARLY_STATES):
                raise  # no coin of ours is in it, as far as we know: it ends by itself
            self._trades.advance(row.trade_id, LoseTrust(f"the peer has {error}"))
        return self._trades.row(row.trade_id)


def check_place(message: Message, messages: tuple[Message, ...], *, gaps: bool = False) -> None:
    """Check the place in the sender's chain. Raises NotYet for a gap, PeerFault else.

    `gaps`: we have lost data, and with them messages that the sender knows to be delivered.
    """
    theirs = [m for m in messages if m.sender == message.sender]
    expected = theirs[-1].seq + 1 if theirs else 0
    if begins_afresh(message) and message.seq >= expected:
        return  # its sender has lost his place
    if message.seq > expected and gaps:
        return
    if message.seq > expected:
        raise NotYet(f"seq: {message.seq} came before {expected}")
    if message.seq < expected:
        raise NumberUsed(f"seq: another message of number {message.seq} was signed before")
    if message.prev != (theirs[-1].id if message.seq % FRESH_STEP and theirs else ZERO):
        raise PeerFault("prev: does not name the sender's last message")
