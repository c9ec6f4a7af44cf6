"""What peers say: from bytes off an authenticated stream to an applied message and a reply.

    reply = [status, text, raw]  0 applied (or known), 1 not yet: send it again, 2 refused,
                                 3 refused: you signed `raw` by this number before,
                                 4 `seen` names a message of ours that is not here: show it

Who answers 4 is sent that message of his own next: his signature proves that he has lost data.

Checks come in the order of their cost, and all before anything changes: form and signature,
the sender is whom the stream authenticated, the place in the chain, then `examine`, then the
machine. A refusal leaves a log line that says what was refused, and nothing else.
"""

import logging
from typing import Final

from escrow.errors import DataLost, NotYet, NumberUsed
from escrow.examine import check_once, check_seen, check_sender, examine
from escrow.examine_settling import Examined, World
from escrow.messages import FRAME_LIMIT, FRESH_STEP, MAX_MESSAGE, ZERO, Kind, Message
from escrow.model import Cancel, Received, Taking, Toxic
from escrow.opening import EARLY_STATES
from escrow.payloads import Take, decode
from escrow.shell_bargain import Bargains
from escrow.shell_cases import Cases
from escrow.shell_equivocation import Lookout
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
USED: Final = 3
SHOW: Final = 4


def reply(status: int, text: str = "", raw: bytes = b"") -> bytes:
    """Return a reply's bytes."""
    return wire.pack((status, wire.clipped(text, 600), raw))


def read_reply(raw: bytes) -> tuple[int, str, bytes]:
    """Parse a reply: status, text, and with USED the message that it speaks of. InvalidRecord."""
    parts = wire.fields("reply", wire.unpack("reply", raw, limit=FRAME_LIMIT), 3)
    status = wire.within("status", parts[0], APPLIED, SHOW)
    proof = wire.blob("raw", parts[2], MAX_MESSAGE if status == USED else 0)
    return status, wire.text("text", parts[1], 700), proof


class Inbox:
    """Applies peers' messages to trades and cases."""

    def __init__(self, trades: Trades, opening: Opening, bargains: Bargains) -> None:
        self._trades = trades
        self._bargains = bargains
        self._opening = opening
        self._world = trades.world
        self._lookout = Lookout(trades.world)
        self._cases = Cases(trades, self._lookout)

    async def deliver(self, raw: bytes, peer: bytes) -> bytes:
        """Apply one message from the authenticated `peer`; returns the reply's bytes."""
        try:
            message = Message.from_wire(raw, self._world.network)
            if message.sender == self._world.me and message.recipient == peer:
                return self._shown(message)
            if message.sender != peer or message.recipient != self._world.me:
                raise PeerFault("sender: is not whom the connection authenticates")
            if self._world.journal.known(message.id):
                return reply(APPLIED)
            self._lookout.arrived(message)
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
            return reply(USED, str(error), error.raw)
        except DataLost as error:
            log.warning("in doubt, from %s: %s", peer.hex()[:16], error)
            return reply(SHOW, str(error))
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
        if row is None and message.kind is Kind.ENQUIRY:
            return  # the runner-up asks whether we have ruled: nobody has called us
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
        facts = self._trades.facts(row).having(message)
        check_sender(message, facts)
        if not isinstance(row.state, Toxic):
            self._seen(message, messages, row)
        check_place(message, messages, gaps=isinstance(row.state, Toxic))
        world = World(
            bench=self._trades.bench(row),
            tip_height=self._world.chain.tip().height,
            merkle_root=self._world.chain.merkle_root,
            own_rate=rate,
            is_ours=self._world.purse.owns,
            is_busy=lambda point: self._busy(row, point),
            check_account=self._world.desk.check,
            lost=isinstance(row.state, Toxic),
        )
        try:
            examined = examine(message, payload, facts, world)
        except (InvalidRecord, PeerFault) as error:
            if not isinstance(row.state, Toxic) or message.kind in _SIGNED:
                raise
            check_once(message, facts)  # whatever was lost, what a peer may say stays bounded
            log.info("kept, though it names what is lost: %s", error)
            examined = Examined()
        if spent:  # a DRAW that is right in all else; once we have ended, this does nothing
            self._trades.advance(row.trade_id, Cancel(f"draw_no: {spent}"))
            raise PeerFault(f"draw_no: {spent}")
        event = Received(message, examined.payload or payload, examined.final, examined.raised)
        self._trades.advance(row.trade_id, event, records=examined.records)

    def _busy(self, row: Row, point: Outpoint) -> bool:
        return self._world.journal.bound_elsewhere(row.trade_id, point)

    def _seen(self, message: Message, messages: tuple[Message, ...], row: Row) -> None:
        """Check `seen`. One that names no message of ours puts the trade in doubt.

        The peer's word makes no trade toxic: he has what he names, so let him show it. Until
        then our user is kept from what lost words could bar. Raises DataLost, PeerFault.
        """
        try:
            check_seen(message, messages, self._world.me)
        except DataLost as error:
            if isinstance(row.state, EARLY_STATES):
                raise PeerFault(str(error)) from None  # nothing is at stake: it ends by itself
            if message.sender in (messages[0].sender, messages[0].recipient):
                self._trades.doubt(row.trade_id)
            raise
        if message.sender in (messages[0].sender, messages[0].recipient):
            self._trades.trust(row.trade_id)  # he goes on from what is here

    def _shown(self, message: Message) -> bytes:
        """Hear our own message from whom we sent it to: unknown, it proves that we lost data."""
        journal = self._world.journal
        if journal.known(message.id):
            return reply(APPLIED)
        if message.trade == ZERO or (
            message.kind is Kind.REFUSE and not journal.row(message.trade)
        ):
            raise PeerFault("what is forgotten of talks and refusals proves no loss")
        why = f"a peer shows our own {message.kind.name}, which is not here"
        self._trades.on_lost(why, message.tip_height)
        return reply(APPLIED)


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
        before = next((m for m in theirs if m.seq == message.seq), None)
        if before is None:  # lost with what we have lost
            raise PeerFault(f"seq: {message.seq} is behind {expected}")
        why = f"seq: another message of number {message.seq} was signed before"
        raise NumberUsed(why, b"" if before.cut_hash else before.wire())
    if message.prev != (theirs[-1].id if message.seq % FRESH_STEP and theirs else ZERO):
        raise PeerFault("prev: does not name the sender's last message")
