"""What a trader's machine may know besides its state: the journal, read-only.

Built by the shell before each step, from what the trade began with (`Own`, `Terms`), from the
messages sent and applied so far, from the arbiters' records known here and from one's own
chain. Everything derivable is derived here and stored nowhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Self

from escrow import accord
from escrow.accord import Asked
from escrow.arbiters import ArbiterRecord
from escrow.bond import Eyes
from escrow.contract import Contract
from escrow.draw import Drawn, Listed, conclude
from escrow.fields import Fields, checked
from escrow.funding import Funding, FundingSide, build_funding, read_declared
from escrow.messages import ZERO, Kind, Message
from escrow.model import ChainView
from escrow.payloads import (
    MAX_RULINGS,
    ContractSigned,
    Dispute,
    Draw,
    Forward,
    Get,
    Inputs,
    Page,
    Part,
    Reveal,
    Settle,
    Statement,
    Take,
    Verdict,
    Witness,
    arbiter_list,
)
from escrow.terms import Terms, build_contract
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.networks import Network
from p2pnode.base.transaction import Outpoint, Transaction, TxIn


@dataclass(frozen=True, kw_only=True)
class Own(Fields):
    """What we bring to a trade and fix when it begins."""

    nonce: bytes = checked(lambda n, v: wire.exact(n, v, 32))
    listed: Listed = checked(arbiter_list)  # noqa: RUF009 - a field() by another name
    part: Part = checked(  # noqa: RUF009 - a field() by another name
        lambda n, v: v if isinstance(v, Part) else Part.from_array(n, v)
    )
    disclosure: bytes = checked(lambda n, v: wire.blob(n, v, 4096, low=1))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One trader's knowledge of one trade."""

    network: Network
    me: bytes
    maker: bytes
    taker: bytes
    terms: Terms
    own: Own
    messages: tuple[Message, ...]
    records: Mapping[bytes, ArbiterRecord]
    eyes: Eyes
    seen_weight: int = 0
    view: ChainView | None = None
    doubted: bool = False  # a peer speaks of a message of ours that is not here

    def having(self, *messages: Message) -> Self:
        """Return the facts with messages added at the end."""
        return replace(self, messages=(*self.messages, *messages))

    @property
    def peer(self) -> bytes:
        """The other trader."""
        return self.taker if self.me == self.maker else self.maker

    @property
    def seller(self) -> bytes:
        """The one who gives bitcoin."""
        return self.maker if self.terms.maker_is_seller else self.taker

    @property
    def buyer(self) -> bytes:
        """The one who gets bitcoin."""
        return self.taker if self.terms.maker_is_seller else self.maker

    def all(self, sender: bytes, kind: Kind) -> tuple[Message, ...]:
        """Return the messages of that sender and kind, oldest first."""
        return tuple(m for m in self.messages if m.sender == sender and m.kind is kind)

    def one(self, sender: bytes, kind: Kind) -> Message | None:
        """Return the first message of that sender and kind."""
        return next(iter(self.all(sender, kind)), None)

    # -- the draw

    @property
    def take(self) -> Message:
        """The message that began the trade."""
        return self._need(self.taker, Kind.TAKE)

    @cached_property
    def drawn(self) -> Drawn:
        """The draw, from the transcript. Raises InvalidRecord naming what is wrong or lacks."""
        draw, reveal = self._need(self.maker, Kind.DRAW), self._need(self.taker, Kind.REVEAL)
        return conclude(self.take, draw, reveal, self.records, self.eyes)

    def record(self, record_id: bytes) -> ArbiterRecord:
        """Return a listed record. Raises LocalFault if it is not here."""
        if record_id not in self.records:
            short = record_id.hex()[:16]
            raise LocalFault(f"the arbiter's record {short}… is not here", field="records")
        return self.records[record_id]

    def lacking(self) -> tuple[bytes, ...]:
        """Return the ids of listed records that we do not hold, ascending."""
        return tuple(sorted(self.listed_ids() - self.records.keys()))

    def to_ask(self) -> tuple[bytes, ...]:
        """Return the ids of listed records to ask the peer for, ascending.

        The maker asks once for all that the taker lists and he does not, known here or not:
        so both sides know, from the messages alone, when the maker has every record.
        """
        wanted = set(self.lacking())
        if self.me == self.maker:
            mine, theirs = self._listed(self.me), self._listed(self.peer)
            asked = chain.from_iterable(
                Get.from_wire(m.payload).ids for m in self.all(self.me, Kind.GET)
            )
            wanted |= {i for _, i in theirs} - {i for _, i in mine} - set(asked)
        return tuple(sorted(wanted))

    def listed_ids(self) -> frozenset[bytes]:
        """Return the record ids of both lists as far as they are known: ours from the start."""
        theirs = chain(self._listed(self.maker), self._listed(self.taker), self.own.listed)
        return frozenset(i for _, i in theirs)

    def owed(self) -> frozenset[bytes]:
        """Return the record ids of our list that the peer's list lacks and he has not got."""
        mine, theirs = self._listed(self.me), self._listed(self.peer)
        lacks = {i for _, i in mine} - {i for _, i in theirs}
        asked = chain.from_iterable(
            Get.from_wire(m.payload).ids for m in self.all(self.peer, Kind.GET)
        )
        return frozenset(lacks - set(asked))

    def _listed(self, sender: bytes) -> Listed:
        if message := self.one(sender, Kind.DRAW):
            return Draw.from_wire(message.payload).arbiters
        if message := self.one(sender, Kind.REVEAL):
            return Reveal.from_wire(message.payload).arbiters
        return ()

    # -- the contract and the funding

    @cached_property
    def contract(self) -> Contract:
        """The contract: as we signed it, else as the messages make it. Raises InvalidRecord."""
        if mine := self.one(self.me, Kind.CONTRACT):
            return Contract.from_wire(ContractSigned.from_wire(mine.payload).contract, self.network)
        draw, reveal = self._need(self.maker, Kind.DRAW), self._need(self.taker, Kind.REVEAL)
        conditions = self.terms.conditions(self.terms_taken.amount_sat)
        return build_contract(conditions, self.take, draw, reveal, self.drawn)

    @property
    def terms_taken(self) -> Take:
        """What the TAKE says."""
        return Take.from_wire(self.take.payload)

    @property
    def settled_contract(self) -> Contract | None:
        """The contract once both have signed it."""
        both = self.one(self.me, Kind.CONTRACT) and self.one(self.peer, Kind.CONTRACT)
        return self.contract if both else None

    @cached_property
    def funding(self) -> Funding | None:
        """The joint funding transaction, unsigned, once both have declared their inputs."""
        return funding_of(self.contract, self.messages) if self.settled_contract else None

    @property
    def outpoint(self) -> Outpoint:
        """The escrow output that every signature commits to. Raises InvalidRecord before it is."""
        if self.funding is None:
            raise InvalidRecord("funding", "is not built yet")
        return self.funding.escrow_outpoint

    @cached_property
    def final_funding(self) -> bytes:
        """The funding as both WITNESS messages complete it, or nothing while one lacks."""
        if self.funding is None:
            return b""
        stacks = {}
        for side, sender in (("B", self.buyer), ("S", self.seller)):
            if message := self.one(sender, Kind.WITNESS):
                stacks[side] = iter(Witness.from_wire(message.payload).stacks)
        if len(stacks) < 2:
            return b""
        tx = self.funding.tx
        inputs = tuple(
            TxIn(i.outpoint, i.sequence, b"", next(stacks[owner]))
            for i, owner in zip(tx.inputs, self.funding.owners, strict=True)
        )
        return Transaction(tx.version, inputs, tx.outputs, tx.locktime).serialize()

    # -- other ends than the release

    @cached_property
    def agreed(self) -> Asked | None:
        """The split that ASK and OK have bound, or None."""
        return accord.agreement(self.between, self.maker, self.taker)

    def asked(self, asker: bytes) -> Asked | None:
        """Return that trader's ASK that binds him still, or None."""
        other = self.taker if asker == self.maker else self.maker
        found = accord.asks(self.between, asker, other)
        return next((a for a in reversed(found) if a.binds), None)

    @cached_property
    def first_signed(self) -> Message | None:
        """Our first signature on a payout, as it left: RECEIVED or SETTLE."""
        return self.one(self.me, Kind.RECEIVED) or self.one(self.me, Kind.SETTLE)

    @property
    def conceded(self) -> Message | None:
        """The buyer's own signature on REFUND, without an OK."""
        found = (m for m in self.all(self.buyer, Kind.SETTLE))
        return next((m for m in found if Settle.from_wire(m.payload).ok_id == ZERO), None)

    def ruling(self, *, of_runner_up: bool | None) -> tuple[bool, Verdict]:
        """Return whose verdict it is (the runner-up's?) and the verdict: his first, or any's.

        It came as VERDICT, or in a FORWARD of the arbiter who had signed it before he lost data.
        Raises InvalidRecord while there is none.
        """
        found = []
        for m in self.messages:
            carried = m
            if m.kind is Kind.FORWARD and m.sender in self.arbiters:
                carried = Message.from_wire(Forward.from_wire(m.payload).messages[-1], self.network)
            if carried.kind is Kind.VERDICT and carried.sender == m.sender:
                second = m.sender != self.contract.arbiter
                found.append((second, Verdict.from_wire(carried.payload)))
        fitting = [f for f in found if of_runner_up is None or f[0] == of_runner_up]
        if not fitting:
            raise InvalidRecord("VERDICT", "has not been sent in this trade")
        return fitting[0]  # R5: his first

    def noticed(self, arbiter: bytes) -> bool:
        """Tell whether that arbiter has acknowledged a dispute to us."""
        return self.one(arbiter, Kind.NOTICE) is not None

    def called(self, arbiter: bytes) -> bool:
        """Tell whether that arbiter was called, by us or by the peer."""
        by_us = any(m.recipient == arbiter for m in self.all(self.me, Kind.DISPUTE))
        return by_us or self.noticed(arbiter)

    @property
    def arbiters(self) -> tuple[bytes, ...]:
        """The arbiter, and the runner-up where the kind of escrow knows him."""
        contract = self.contract
        return (contract.arbiter, contract.runner_up) if contract.n else (contract.arbiter,)

    # -- what an arbiter is shown

    @property
    def between(self) -> tuple[Message, ...]:
        """Every message between the traders."""
        both = {self.maker, self.taker}
        return tuple(m for m in self.messages if {m.sender, m.recipient} == both)

    def papers(self) -> tuple[bytes, ...]:
        """Return every message between the traders, whole."""
        return tuple(m.wire() for m in self.between)

    def rulings(self, arbiter: bytes) -> tuple[bytes, ...]:
        """Return what arbiters have told us, for `arbiter` to repeat, or to know his loss by."""
        kinds = {Kind.VERDICT, Kind.RECUSE}
        told = [m for m in self.messages if m.sender in self.arbiters]
        found = [m for m in told if m.kind in kinds and self._shows(m)]
        found += [m for m in told if m.sender == arbiter][-1:]  # proves what `seen` names
        once = {m.id: m for m in found}
        return tuple(m.wire() for m in once.values())[:MAX_RULINGS]

    def _shows(self, message: Message) -> bool:
        """A verdict that gives us more than our own facts is not ours to show (R2, R6)."""
        if message.kind is not Kind.VERDICT:
            return True
        verdict = Verdict.from_wire(message.payload)
        contract = self.contract
        if self.me == self.seller:
            return not self.one(self.me, Kind.RECEIVED) or verdict.seller_sat <= contract.dep_s
        paid = self.one(self.me, Kind.PAID) is not None
        return paid or verdict.buyer_sat <= contract.dep_b

    def last_words(self, arbiter: bytes) -> str:
        """Return what our user told that arbiter last; papers that the node shows hold no words."""
        for m in reversed(self.messages):
            if m.sender == self.me and m.recipient == arbiter:
                if m.kind is Kind.STATEMENT and (said := Statement.from_wire(m.payload).statement):
                    return said
                if m.kind is Kind.DISPUTE and (said := Dispute.from_wire(m.payload).statement):
                    return said
        return ""

    def dispute(self, words: str, arbiter: bytes) -> Dispute:
        """Return our call of an arbiter: each listed record in a PAGE or, else, beside them.

        Raises LocalFault for a record that is not here, InvalidRecord for words out of bounds.
        """
        pages = (m for m in self.messages if m.kind is Kind.PAGE)
        answered = {Page.from_wire(m.payload).get_id for m in pages}
        gets = (m for m in self.messages if m.id in answered)
        paged = frozenset(chain.from_iterable(Get.from_wire(m.payload).ids for m in gets))
        return Dispute(
            contract=self.contract.wire(),
            messages=self.papers(),
            records=tuple(self.record(i).wire() for i in sorted(self.listed_ids() - paged)),
            rulings=self.rulings(arbiter),
            statement=words,
        )

    def statement(self, words: str, arbiter: bytes) -> Statement:
        """Return words, or papers alone, for an arbiter. Raises InvalidRecord for long words."""
        return Statement(statement=words, messages=self.papers(), rulings=self.rulings(arbiter))

    def _need(self, sender: bytes, kind: Kind) -> Message:
        message = self.one(sender, kind)
        if message is None:
            raise InvalidRecord(kind.name, "has not been sent in this trade")
        return message


def funding_of(contract: Contract, messages: Iterable[Message]) -> Funding | None:
    """Build the funding from both INPUTS among `messages`, or return None while one lacks."""
    sides: dict[bytes, FundingSide] = {}
    for message in messages:
        if message.kind is Kind.INPUTS and message.sender not in sides:
            declared = Inputs.from_wire(message.payload)
            coins = tuple(read_declared(d) for d in declared.inputs)
            sides[message.sender] = FundingSide(coins, declared.change_script)
    if not {contract.buyer, contract.seller} <= sides.keys():
        return None
    return build_funding(contract, sides[contract.buyer], sides[contract.seller])
