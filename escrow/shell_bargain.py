"""The negotiations' shell: journals each step whole, and only then is anything said.

As in `shell_trades`, one step is synchronous from reading the row to the commit. What a
stranger may make this node keep is bounded: PER_PEER negotiations of one peer in ten minutes,
MAX_LIVING in all. A first PROPOSE that is refused is answered in the reply and kept nowhere.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from escrow import bargain
from escrow.bargain import (
    Declined,
    Event,
    Facts,
    Fresh,
    Heard,
    SayPropose,
    Tick,
    Took,
    Undelivered,
)
from escrow.errors import NotYet
from escrow.messages import ZERO, Message
from escrow.payloads import Payload, Propose, Take
from escrow.shell_desktop import Desktop
from escrow.store_bargain import BargainStore, Row
from escrow.terms import Terms
from p2pnode.base.errors import InvalidRecord, LocalFault, NodeError, NotFound, PeerFault

log: Final = logging.getLogger(__name__)

PER_PEER: Final = 4  # negotiations with one peer that began in ten minutes
MAX_LIVING: Final = 64  # that others began and that go on
TICK_S: Final = 2.0


class Bargains:
    """Every negotiation of this node, in either role."""

    def __init__(self, world: Desktop) -> None:
        self._world = world
        self._store = BargainStore(world.journal)
        self.on_outbox: Callable[[bytes], None] = lambda _peer: None

    # -- reading

    def rows(self) -> list[Row]:
        """Return every negotiation kept, the newest first."""
        return self._store.rows()

    def row(self, bargain_id: bytes) -> Row:
        """Return one negotiation. Raises NotFound."""
        row = self._store.row(bargain_id)
        if row is None:
            raise NotFound(f"no proposal {bargain_id.hex()[:16]}… here", field="proposal_id")
        return row

    def facts(self, row: Row) -> Facts:
        """Return what one side knows of a negotiation now."""
        desk = self._world.desk
        return Facts(
            is_maker=row.is_maker,
            terms=row.terms,
            amount_sat=row.amount_sat,
            began=row.began,
            messages=self._world.journal.messages(row.id),
            policy=desk.policy(row.offer_id) if row.is_maker else bargain.Policy(),
            is_open=not row.is_maker or desk.is_open(row.offer_id),
        )

    # -- our user

    def propose(
        self,
        terms: Terms,
        offer_id: bytes,
        amount_sat: int,
        fiat_minor: int,
        *,
        account_id: bytes,
        escrow_kind: str,
    ) -> bytes:
        """Propose another sum to a maker. Returns the negotiation's id. Raises LocalFault."""
        now = self._world.clock.now()
        if terms.maker == self._world.me:
            raise LocalFault("this is your own offer", field="offer")
        if self._store.begun_since(terms.maker, now - bargain.LIFE_S) >= PER_PEER:
            raise LocalFault(f"{PER_PEER} proposals to this maker in ten minutes are enough")
        row = self._new(terms, offer_id, amount_sat, terms.maker, is_maker=False)
        row = replace(row, account_id=account_id, escrow_kind=escrow_kind)
        return self._advance(row, SayPropose(fiat_minor)).id

    def act(self, bargain_id: bytes, event: Event) -> Row:
        """Do what our user says. Raises LocalFault, InvalidRecord, NotFound."""
        return self._advance(self.row(bargain_id), event)

    # -- peers

    def hear(self, message: Message, payload: Payload) -> None:
        """Apply a peer's message. Raises PeerFault, InvalidRecord; NotYet when too many live."""
        if message.seen != ZERO or message.draw_no:
            raise PeerFault("seen: is zero in a negotiation")
        if message.prev == ZERO:
            self._begin(message, payload)
            return
        row = self._store.holding(message.prev)
        if row is None or row.peer != message.sender:
            raise PeerFault("prev: names no message of a negotiation here")
        self._advance(row, Heard(message, payload))

    def _begin(self, message: Message, payload: Payload) -> None:
        world, peer, now = self._world, message.sender, self._world.clock.now()
        if not isinstance(payload, Propose):
            raise PeerFault(f"{message.kind.name} begins no negotiation")
        terms = world.desk.terms(payload.offer_hash, payload.method, peer)
        if terms is None:
            raise PeerFault("offer_hash: is no current offer of this node")
        if self._store.begun_since(peer, now - bargain.LIFE_S) >= PER_PEER:
            raise PeerFault(f"PROPOSE: {PER_PEER} in ten minutes are enough")
        if self._store.living_of_others() >= MAX_LIVING:
            raise NotYet("too many negotiations go on here at once")
        offer_id = world.desk.offer_id(payload.offer_hash)
        row = self._new(terms, offer_id, payload.amount_sat, peer, is_maker=True)
        self._advance(row, Heard(message, payload))

    def undelivered(self, bargain_id: bytes, why: str) -> bool:
        """The peer's node refused a message. Returns whether it is of a negotiation."""
        row = self._store.row(bargain_id)
        if row is not None:
            self._advance(row, Undelivered(why))
        return row is not None

    # -- the TAKE

    def agreed(self, take: Take, taker: bytes) -> int | None:
        """Return the sum of our COUNTER that a peer's TAKE names; None if it names none.

        The TAKE's offer_hash may be of a later version than the PROPOSE's: the offer must be
        the same. Raises PeerFault for a COUNTER that is not his, not for this, used or over.
        """
        if take.counter == ZERO:
            return None
        row = self._store.holding(take.counter)
        if row is None or not row.is_maker or row.peer != taker:
            raise PeerFault("counter: is none of ours to this taker")
        if self._world.desk.offer_id(take.offer_hash) != row.offer_id:
            raise PeerFault("counter: was made for another offer")
        bargain.step(row.state, Took(take, ZERO), self.facts(row), self._world.clock.now())
        return take.fiat_minor  # compared by the machine

    def promised(self, take: Take, taker: bytes) -> int:
        """Return the price that the offer had when our COUNTER to a peer's TAKE was asked for.

        It stands in where the market has none now, so that the sum agreed to holds; 0 without.
        """
        row = None if take.counter == ZERO else self._store.holding(take.counter)
        return row.terms.price if row and row.is_maker and row.peer == taker else 0

    def used(self, take: Take, trade_id: bytes) -> None:
        """Write that a TAKE uses its COUNTER; inside the caller's transaction.

        Raises LocalFault if ours as the taker may not, PeerFault for a peer's.
        """
        if take.counter == ZERO:
            return
        row = self._store.holding(take.counter)
        if row is None or take.maker != (self._world.me if row.is_maker else row.peer):
            raise LocalFault("counter: is none of this maker's", field="counter")
        self._advance(row, Took(take, trade_id))

    # -- time

    async def run(self) -> None:
        """Let negotiations lapse until cancelled."""
        while True:
            self.tick()
            await trio.sleep(TICK_S)

    def tick(self) -> None:
        """Look at every negotiation that goes on; what is too late to say is not sent."""
        for row in self._store.living():
            try:
                self._advance(row, Tick())
            except NodeError as error:  # a chain server that is away, an offer that is gone
                log.info("proposal %s waits: %s", row.id.hex()[:16], error)
        self._store.give_up(self._world.clock.now() - bargain.LIFE_S)

    # -- one step

    def _new(
        self, terms: Terms, offer_id: bytes, amount_sat: int, peer: bytes, *, is_maker: bool
    ) -> Row:
        now = self._world.clock.now()
        return Row(
            id=ZERO,  # until its first message is there
            is_maker=is_maker,
            peer=peer,
            offer_id=offer_id,
            terms=terms,
            amount_sat=amount_sat,
            state=Fresh(),
            began=now,
            changed=now,
        )

    def _advance(self, row: Row, event: Event) -> Row:
        """Step one negotiation and commit. Raises what its machine raises."""
        world, facts, now = self._world, self.facts(row), self._world.clock.now()
        state, sends = bargain.step(row.state, event, facts, now)
        if isinstance(row.state, Fresh) and isinstance(state, Declined):
            raise InvalidRecord("fiat_minor", state.reason)
        heard = [event.message] if isinstance(event, Heard) else []
        if (state, sends, heard) == (row.state, (), []):
            return row
        messages, said = [*facts.messages, *heard], []
        for payload in sends:
            said.append(self._sign(row.peer, payload, messages))
            messages.append(said[-1])
        if said:
            state = bargain.named(state, said[-1].id)
            if world.journal.known(said[-1].id):  # the same bytes, in the same block
                raise LocalFault("this very sum was proposed a moment ago", field="fiat_minor")
        after = replace(row, id=messages[0].id, state=state, changed=now)
        with world.journal.database.transaction():
            self._store.save(after)
            for message in (*heard, *said):
                self._store.add(after.id, message, mine=message in said)
            if after.ended:
                self._store.prune()
            self._tell(row, after, heard, said)
        if said:
            self.on_outbox(row.peer)
        return after

    def _sign(self, to: bytes, payload: Payload, messages: list[Message]) -> Message:
        world, tip = self._world, self._world.chain.tip()
        return Message(
            network=world.network,
            kind=payload.kind,
            trade_id=ZERO,
            sender=world.me,
            recipient=to,
            seq=len(messages),
            prev=messages[-1].id if messages else ZERO,
            seen=ZERO,
            tip_height=tip.height,
            tip_hash=tip.hash,
            draw_no=0,
            payload=payload.wire(),
        ).signed(world.identity)

    def _tell(self, before: Row, after: Row, heard: list[Message], said: list[Message]) -> None:
        self._world.announce.publish(
            "proposal",
            proposal_id=after.id.hex(),
            state=type(after.state).__name__,
            before="" if isinstance(before.state, Fresh) else type(before.state).__name__,
            sent=[m.kind.name for m in said],
            received="".join(m.kind.name for m in heard),
        )
        names = type(before.state).__name__, type(after.state).__name__
        log.info("proposal %s: %s -> %s", after.id.hex()[:16], *names)
