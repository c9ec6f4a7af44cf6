"""The trades' shell: journals each step whole, and only then lets it act.

One step is synchronous from reading the state to the commit, so no other task comes between:
the message (inbox), the new state, what is sent (outbox), locks, splits and the event for the
user are one SQLite transaction. Duties and delivery come after, and again on start. Nothing
here decides anything: `opening`, `settlement`, `hearing` decide, `examine` compares.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import trio

from escrow import hearing, opening, settlement
from escrow.accord import first_signer_is_buyer
from escrow.arbiters import ArbiterRecord
from escrow.backend_bench import TradeBench
from escrow.case import Case
from escrow.facts import Facts
from escrow.messages import MAX_PAYLOAD, MAX_SEQ, ZERO, Kind, Message
from escrow.model import (
    Aborted,
    Agreed,
    AnswerAsk,
    ChainView,
    Closed,
    ClosedCase,
    CoinsChosen,
    Event,
    Funding,
    LoseTrust,
    Received,
    Releasing,
    RuledCase,
    SayNotPaid,
    Send,
    State,
    Toxic,
    Void,
)
from escrow.payloads import Draw, Inputs, Payload, Reveal
from escrow.payout import Split, refund, release
from escrow.shell_desktop import Desktop
from escrow.store_journal import TRADER, Row, own_of, terms_of
from escrow.transcript import case_papers, shown_rulings
from escrow.words import DOUBT
from p2pnode.base.errors import LocalFault, Misconfigured, NotFound, Unreachable
from p2pnode.base.transaction import Outpoint

log: Final = logging.getLogger(__name__)

ENDED: Final = (Aborted, Closed, Void, ClosedCase)
WATCH_DEPTH: Final = 100  # from which on a closed trade is looked up in the chain no more


class Trades:
    """Reads and advances trades and cases; every change goes through `_commit`."""

    def __init__(self, world: Desktop) -> None:
        self.world = world
        self.records: dict[bytes, ArbiterRecord] = world.journal.roll.all()
        self._views: dict[bytes, ChainView] = {}
        self._wake: dict[bytes, trio.Event] = {}
        self._seen: tuple[tuple[int, ...], int] = ((), 0)
        self.on_outbox: Callable[[bytes], None] = lambda _peer: None
        self.on_lost: Callable[[str, int], None] = lambda _why, _height: None  # up to which tip
        self.on_begin: Callable[[bytes], None] = lambda _trade_id: None

    # -- reading

    def row(self, trade_id: bytes) -> Row:
        """Return a trade as it is saved. Raises NotFound."""
        row = self.world.journal.row(trade_id)
        if row is None:
            raise NotFound(f"no trade {trade_id.hex()[:16]}… here", field="trade_id")
        return row

    def facts(self, row: Row) -> Facts:
        """Return a trader's facts. Raises NotFound for a TAKE that was refused at once."""
        world = self.world
        messages = world.journal.messages(row.trade_id)
        if not row.own or not messages:
            raise NotFound("this trade was refused before it began", field="trade_id")
        return Facts(
            network=world.network,
            me=world.me,
            maker=messages[0].recipient,
            taker=messages[0].sender,
            terms=terms_of(row),
            own=own_of(row),
            messages=messages,
            records=self.records,
            eyes=world.chain,
            seen_weight=self.seen_weight(),
            view=self._views.get(row.trade_id),
            doubted=world.journal.doubted(row.trade_id),
        )

    def seen_weight(self) -> int:
        """Return the weight of the arbiters seen in 30 days, at most a minute old."""
        world, now = self.world, self.world.clock.now()
        try:
            key = (now // 60, len(self.records), world.chain.tip().height)
        except (Unreachable, Misconfigured):  # who sees no chain opens no trade either
            return self._seen[1]
        if self._seen[0] != key:
            self._seen = (key, world.journal.roll.seen_weight(now, self.records, world.chain))
        return self._seen[1]

    def case(self, row: Row, *more: Message) -> Case:
        """Return an arbiter's case, the papers united from every message that carried some.

        `more` is a message under way, the papers that it carries included.
        """
        world = self.world
        messages = (*world.journal.messages(row.trade_id), *more)
        contract, papers = case_papers(messages)
        return Case(
            network=world.network,
            me=world.me,
            contract=contract,
            messages=messages,
            papers=papers,
            shown=shown_rulings(messages, contract),
            view=self._views.get(row.trade_id),
        )

    def is_over(self, row: Row) -> bool:
        """Tell whether nothing more can come: what has closed is watched on until it is buried."""
        view = self._views.get(row.trade_id)
        if isinstance(row.state, (Closed, Void)):
            last = view and (view.spend if isinstance(row.state, Closed) else view.conflict)
            return bool(view and last and view.depth_of(last) >= WATCH_DEPTH)
        return isinstance(row.state, ENDED)

    def bench(self, row: Row) -> TradeBench:
        """Return our key's bench for one trade or case."""
        keys = self.world.keys
        if row.role == TRADER:
            backup = keys.backup_key(row.trade_id)
            return TradeBench(keys.escrow_key(row.trade_id), self.world.opinions, backup)
        contract = self.case(row).contract
        second = self.world.me == contract.runner_up
        key = keys.arbiter_key(contract.seed, contract.bond_a2 if second else contract.bond_a)
        return TradeBench(key, self.world.opinions)

    # -- advancing

    def advance(
        self, trade_id: bytes, event: Event, *, records: Iterable[ArbiterRecord] = ()
    ) -> State:
        """Step one trade or case and commit. Raises what its machine raises."""
        row = self.row(trade_id)
        if isinstance(event, ChainView):
            self._views[trade_id] = event
        ended = isinstance(row.state, ENDED)
        waking = isinstance(row.state, Aborted) and isinstance(event, LoseTrust) and bool(row.own)
        if ended and not waking and not isinstance(event, Received):
            return row.state
        received = (event.message,) if isinstance(event, Received) else ()
        learned = tuple(records)
        if row.role == TRADER:
            known = {**self.records, **{r.id: r for r in learned}}
            facts = replace(self.facts(row).having(*received), records=known)
            state, sends = trader_step(row.state, event, facts, self.world.clock.now())
        else:
            state, sends = hearing.step(row.state, event, self.case(row, *received))
        if (state, sends, received) != (row.state, (), ()):
            self._commit(row, state, sends, event, learned)
        if ended and not isinstance(state, ENDED):
            self.on_begin(trade_id)  # it is tended again
        return state

    def _commit(
        self,
        row: Row,
        state: State,
        sends: tuple[Send, ...],
        event: Event,
        records: tuple[ArbiterRecord, ...],
    ) -> None:
        world, trade_id = self.world, row.trade_id
        with world.journal.database.transaction():
            if isinstance(event, Received):
                world.journal.add(event.message, mine=False)
                world.journal.covered(event.message)
            gone = world.journal.roll.put(records, world.clock.now())
            self._side_effects(row, state, event)
            world.journal.save(trade_id, state, world.clock.now())
            base = state.base if isinstance(state, Toxic) else 0
            for message in self._compose(trade_id, sends, base):
                world.journal.add(message, mine=True)
            heard = event.message.kind.name if isinstance(event, Received) else ""
            said = [s.payload.kind.name for s in sends]
            self._tell(row.role, trade_id, type(row.state).__name__, state, heard, said)
        self._remember(records, gone)
        for peer in {s.to for s in sends}:
            self.on_outbox(peer)
        self.wake(trade_id)

    def _side_effects(self, row: Row, state: State, event: Event) -> None:
        """Write what belongs to the same transaction: locks, splits, coins, the offer."""
        world, trade_id = self.world, row.trade_id
        if isinstance(event, CoinsChosen) and isinstance(event.payload, Inputs):
            world.locks.lock(_outpoints(event.payload), trade_id)
        if isinstance(event, Received) and isinstance(event.payload, Inputs):
            world.journal.bind_coins(trade_id, _outpoints(event.payload))
        if isinstance(state, RuledCase):
            split = Split(state.buyer_sat, state.seller_sat, state.arbiter_sat)
            world.journal.commit_split(trade_id, split)
        if row.role != TRADER or not row.own:
            return
        facts = self.facts(row)
        if ours := _first_signs(row.state, state, event, facts):
            world.journal.commit_split(trade_id, ours, conceding=isinstance(state, Toxic))
        if world.me == facts.maker and state != row.state:
            if isinstance(state, Funding) and not isinstance(row.state, Funding):
                world.desk.reserve(facts.terms.offer_hash, trade_id)
            if isinstance(state, (Aborted, Void)):
                world.desk.release(facts.terms.offer_hash, trade_id)
        if isinstance(state, Aborted):
            world.journal.spare_script(facts.own.part.script)
            if said := facts.one(facts.me, Kind.INPUTS):
                world.journal.spare_script(Inputs.from_wire(said.payload).change_script)
        if isinstance(state, ENDED):
            world.locks.unlock(trade_id)
            world.journal.free_coins(trade_id)
            world.journal.roll.let_go(trade_id)
        elif isinstance(event, Received) and isinstance(event.payload, (Draw, Reveal)):
            world.journal.roll.hold(trade_id, (i for _, i in event.payload.arbiters))

    def _compose(self, trade_id: bytes, sends: Iterable[Send], base: int) -> Iterable[Message]:
        messages = list(self.world.journal.messages(trade_id))
        for send in sends:
            message = self.sign(trade_id, send.to, send.payload, messages, base)
            messages.append(message)
            yield message

    def sign(
        self,
        trade_id: bytes,
        to: bytes,
        payload: Payload,
        messages: Iterable[Message],
        base: int = 0,
    ) -> Message:
        """Return our next message of a trade's chain to `to`, signed.

        `base` is the number of the chain's first message: not 0 once we have lost data.
        """
        world, body = self.world, payload.wire()
        if len(body) > MAX_PAYLOAD:  # whoever read it back could not parse it
            raise LocalFault(f"{payload.kind.name} is longer than {MAX_PAYLOAD} bytes")
        ours = [m for m in messages if m.sender == world.me and m.recipient == to]
        mine = [m for m in ours if m.seq >= base]
        theirs = [m for m in messages if m.sender == to]
        tip = world.chain.tip()
        draws = payload.kind in {Kind.TAKE, Kind.DRAW}
        return Message(
            network=world.network,
            kind=payload.kind,
            trade_id=trade_id,
            sender=world.me,
            recipient=to,
            seq=_bounded(mine[-1].seq + 1 if mine else base),
            prev=mine[-1].id if mine else ZERO,
            seen=theirs[-1].id if theirs else ZERO,
            tip_height=tip.height,
            tip_hash=tip.hash,
            draw_no=world.journal.draws_of(world.me) + 1 if draws else 0,
            payload=body,
        ).signed(world.identity)

    def _tell(
        self, role: str, trade_id: bytes, before: str, state: State, heard: str, said: list[str]
    ) -> None:
        self.world.announce.publish(
            "trade" if role == TRADER else "case",
            trade_id=trade_id.hex(),
            state=type(state).__name__,
            before=before,
            sent=said,
            received=heard,
        )
        short, after = trade_id.hex()[:16], type(state).__name__
        told = (role, short, before or "-", after, heard or "-", ",".join(said) or "-")
        log.info("%s %s: %s -> %s, received %s, sent %s", *told)

    # -- beginning

    def begin(
        self,
        role: str,
        state: State,
        messages: Iterable[tuple[Message, bool]],
        listed: Iterable[ArbiterRecord] = (),
        *,
        also: Callable[[], None] = lambda: None,
        **kept: bytes,
    ) -> bytes:
        """Write a new trade or case with its first messages; `True` marks our own.

        The records that we list are kept as long as the trade lives. `also` writes into the same
        transaction: one around this call would let delivery begin before its commit.
        """
        world, pairs, records = self.world, list(messages), tuple(listed)
        trade_id = pairs[0][0].trade
        terms, own = kept.get("terms", b""), kept.get("own", b"")
        with world.journal.database.transaction():
            also()
            world.journal.begin(trade_id, role, state, terms, own, world.clock.now())
            if records:
                world.journal.roll.hold(trade_id, (r.id for r in records))
            gone = world.journal.roll.put(records, world.clock.now())
            for message, mine in pairs:
                world.journal.add(message, mine=mine)
            heard = "".join(m.kind.name for m, mine in pairs if not mine)
            said = [m.kind.name for m, mine in pairs if mine]
            self._tell(role, trade_id, "", state, heard, said)
        self._remember(records, gone)
        for message, mine in pairs:
            if mine:
                self.on_outbox(message.recipient)
        if not isinstance(state, ENDED):
            self.on_begin(trade_id)
        return trade_id

    def stall(self, trade_id: bytes, why: str) -> None:
        """Keep, once, why a trade does not go on by itself, and tell the user."""
        row = self.world.journal.row(trade_id)
        if row is None or row.note == why:
            return
        log.warning("trade %s stalls: %s", trade_id.hex()[:16], why)
        with self.world.journal.database.transaction():
            self.world.journal.note(trade_id, why)
            self.world.announce.publish("stalled", trade_id=trade_id.hex(), why=why)

    def doubt(self, trade_id: bytes) -> None:
        """A peer speaks of a message of ours that is not here: keep our user from new words."""
        if not self.world.journal.doubted(trade_id):
            with self.world.journal.database.transaction():
                self.world.journal.mark_doubted(trade_id)
            self.stall(trade_id, DOUBT)

    def trust(self, trade_id: bytes) -> None:
        """The peer goes on from what is here, and has shown nothing: there is no doubt any more."""
        if self.world.journal.doubted(trade_id):
            with self.world.journal.database.transaction():
                self.world.journal.clear_doubt(trade_id)

    def learn(self, records: Iterable[ArbiterRecord]) -> None:
        """Keep verified arbiters' records."""
        found = tuple(records)
        with self.world.journal.database.transaction():
            gone = self.world.journal.roll.put(found, self.world.clock.now())
        self._remember(found, gone)

    def _remember(self, records: Iterable[ArbiterRecord], gone: Iterable[bytes]) -> None:
        """Know what the roll knows, once that is committed."""
        self.records.update((r.id, r) for r in records)
        for record_id in gone:
            self.records.pop(record_id, None)

    # -- waking

    def wake(self, trade_id: bytes) -> None:
        """Let the trade's tender look at it now, if it has one."""
        if trade_id in self._wake:
            self._wake[trade_id].set()

    def wake_all(self) -> None:
        """Let every tender look."""
        for event in self._wake.values():
            event.set()

    def rest(self, trade_id: bytes) -> trio.Event:
        """Return a fresh event to wait for, for the tender alone."""
        self._wake[trade_id] = trio.Event()
        return self._wake[trade_id]

    def retire(self, trade_id: bytes) -> None:
        """Keep in memory nothing more of a trade that is over: they only become more."""
        self._wake.pop(trade_id, None)
        self._views.pop(trade_id, None)


def trader_step(
    state: State, event: Event, facts: Facts, now: int
) -> tuple[State, tuple[Send, ...]]:
    """Ask the machine that knows the state: the opening until the funding, then the settlement."""
    early = isinstance(state, opening.EARLY_STATES) and not isinstance(event, ChainView)
    if early and not isinstance(event, settlement.HEARD_HERE):
        return opening.step(state, event, facts, now)
    return settlement.step(state, event, facts)


def _first_signs(before: State, state: State, event: Event, facts: Facts) -> Split | None:
    """R1: return the split that our key will first-sign because of this step, or None."""
    match state:
        case Releasing() if facts.me == facts.seller:
            return release(facts.contract)
        case Agreed(buyer_sat=b, seller_sat=s) if not isinstance(before, Agreed):
            ours = first_signer_is_buyer(b, s) == (facts.me == facts.buyer)
            bound = facts.agreed is not None or isinstance(event, AnswerAsk)
            return Split(b, s, 0) if ours and bound else None
        case Toxic(conceding=1):
            seller = facts.me == facts.seller
            return release(facts.contract) if seller else refund(facts.contract)
        case _ if isinstance(event, SayNotPaid):
            return refund(facts.contract)
        case _:
            return None


def _bounded(seq: int) -> int:
    """Return a number that a message can have: one that could not be read back is not signed."""
    if seq > MAX_SEQ:
        raise LocalFault(f"this trade's chain of messages has reached number {MAX_SEQ}")
    return seq


def _outpoints(payload: Inputs) -> list[Outpoint]:
    return [Outpoint.from_wire("inputs", i.outpoint) for i in payload.inputs]
