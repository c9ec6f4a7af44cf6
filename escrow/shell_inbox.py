"""What peers say: from bytes off an authenticated stream to an applied message and a reply.

    reply = [status, text]   0 applied (or known), 1 not yet: send it again, 2 refused

Checks come in the order of their cost, and all before anything changes: form and signature,
the sender is whom the stream authenticated, the place in the chain, then `examine`, then the
machine. A refusal leaves a log line that says what was refused, and nothing else.
"""

import logging
from collections.abc import Iterable
from typing import Final

from escrow.backend_bench import TradeBench
from escrow.examine import Examined, World, check_seen, examine
from escrow.hearing import Case, open_case
from escrow.messages import ZERO, Kind, Message
from escrow.model import Received
from escrow.payloads import Payload, Take, decode
from escrow.payloads import Received as Release
from escrow.payout import release
from escrow.errors import NotYet
from escrow.shell_opening import Opening
from escrow.shell_trades import Trades
from escrow.store_journal import ARBITER, Row
from escrow.transcript import case_papers, check_dispute, signed_twice
from p2pnode.base import wire
from p2pnode.base.errors import (
    InvalidRecord,
    NodeError,
    NotFound,
    PeerFault,
    SecondOpinionDiffers,
    StorageFault,
    Unreachable,
)
from p2pnode.base.transaction import Outpoint

log: Final = logging.getLogger(__name__)

APPLIED: Final = 0
LATER: Final = 1
REFUSED: Final = 2
MAX_REPLY: Final = 1024


def reply(status: int, text: str = "") -> bytes:
    """Return a reply's bytes."""
    return wire.pack((status, wire.clipped(text, 600)))


def read_reply(raw: bytes) -> tuple[int, str]:
    """Parse a reply. Raises InvalidRecord."""
    status, text = wire.fields("reply", wire.unpack("reply", raw, limit=MAX_REPLY), 2)
    return wire.within("status", status, APPLIED, REFUSED), wire.text("text", text, 700)


class Inbox:
    """Applies peers' messages to trades and cases."""

    def __init__(self, trades: Trades, opening: Opening) -> None:
        self._trades = trades
        self._opening = opening
        self._world = trades.world

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
        except NodeError as error:
            log.warning("refused from %s: %s", peer.hex()[:16], error)
            return reply(REFUSED, str(error))
        return reply(APPLIED)

    async def _apply(self, message: Message) -> None:
        payload = decode(message.kind, message.payload)
        if isinstance(payload, Take):
            await self._opening.answer(message, payload)
            return
        row = self._world.journal.row(message.trade)
        if row is None and message.kind is Kind.DISPUTE:
            await self._open_case(message)
            return
        if row is None:
            raise PeerFault("trade_id: is no trade here")
        rate = await self._opening.own_rate()
        # Nothing below awaits: what is compared here is what is committed.
        if self._world.journal.known(message.id):
            return  # it came twice, and was applied while we asked
        row = self._trades.row(message.trade)
        messages = self._world.journal.messages(row.trade_id)
        self._in_chain(message, messages)
        if row.role == ARBITER:
            self._hear(message, payload, row)
            return
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
        examined: Examined = examine(message, payload, facts, world)
        event = Received(message, payload, examined.final)
        self._trades.advance(row.trade_id, event, records=examined.records)

    def _busy(self, row: Row, point: Outpoint) -> bool:
        return self._world.journal.bound_elsewhere(row.trade_id, point)

    def _in_chain(self, message: Message, messages: tuple[Message, ...]) -> None:
        """Check the place in the sender's chain. Raises NotYet for a gap, PeerFault else."""
        theirs = [m for m in messages if m.sender == message.sender]
        if message.seq > len(theirs):
            raise NotYet(f"seq: {message.seq} came before {len(theirs)}")
        if message.seq < len(theirs):
            raise PeerFault(f"seq: another message of number {message.seq} was signed before")
        if message.prev != (theirs[-1].id if theirs else ZERO):
            raise PeerFault("prev: does not name the sender's last message")
        check_seen(message, messages, self._world.me)

    # -- the arbiter

    async def _open_case(self, message: Message) -> None:
        """Open a case for an escrow that is on our chain: else two strangers could make many."""
        world = self._world
        tip = world.chain.tip().height
        if message.tip_height > tip:
            raise NotYet(f"tip_height: {message.tip_height} is above our chain's {tip}")
        contract, papers = check_dispute(message, world.me, world.chain)
        key = world.keys.arbiter_key(contract.seed, contract.bond_a)
        if key.public != contract.key_a:
            raise InvalidRecord("key_a", "is not this arbiter's key of that draw")
        self._in_chain(message, ())
        case = Case(
            network=world.network,
            me=world.me,
            contract=contract,
            messages=(message,),
            papers=papers,
        )
        _check_releases(case, papers, TradeBench(key, world.opinions))
        try:
            await world.chain.transaction(case.outpoint.txid)
        except NotFound:
            raise NotYet("messages: their funding is not on our chain") from None
        if world.journal.row(message.trade) is not None:
            raise NotYet("trade_id: its case was opened meanwhile")
        state, sends = open_case(case, message, world.chain.tip().mtp)
        said = [message]
        for send in sends:  # NOTICE and FORWARD to one trader are two numbers of one chain
            said.append(self._trades.sign(contract.trade_id, send.to, send.payload, said))
        self._trades.begin(ARBITER, state, [(m, m is not message) for m in said])

    def _hear(self, message: Message, payload: Payload, row: Row) -> None:
        case = self._trades.case(row)
        if message.sender not in (case.contract.buyer, case.contract.seller):
            raise PeerFault("sender: is no party of this case")
        if message.kind not in {Kind.STATEMENT, Kind.DISPUTE}:
            raise PeerFault(f"{message.kind.name} has no place in a case")
        contract, papers = case_papers((*case.messages, message))
        if contract.wire() != case.contract.wire():
            raise InvalidRecord("contract", "is not this case's")
        _check_releases(case, papers, self._trades.bench(row))
        for trader in signed_twice(papers):
            log.warning("%s signed two messages of one number", trader.hex()[:16])
        self._trades.advance(row.trade_id, Received(message, payload))


def _check_releases(case: Case, papers: Iterable[Message], bench: TradeBench) -> None:
    """Check every release that the seller signed: a bad one is no paper. Raises PeerFault."""
    contract, point = case.contract, case.outpoint  # both INPUTS are there and make a funding
    for paper in papers:
        if paper.kind is Kind.RECEIVED:
            signature = Release.from_wire(paper.payload).signature
            bench.check_first(contract, point, release(contract), contract.key_s, signature)
