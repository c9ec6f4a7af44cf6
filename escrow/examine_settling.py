"""Is it true here? The messages from ACCOUNT to VERDICT, compared with contract, facts and chain.

The other half of `examine`. A first signature is completed on the spot, by our own rebuild of
the payout and past Bitcoin Core's rules, so the machine hears of a finished transaction or of
nothing. The errors are examine's: InvalidRecord, PeerFault.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from escrow import accord
from escrow.arbiters import ArbiterRecord
from escrow.contract import Contract
from escrow.facts import Facts
from escrow.funding import Funding, Owner
from escrow.messages import ZERO, Kind, Message
from escrow.payloads import (
    Account,
    Ack,
    Ask,
    Cover,
    Forward,
    Notice,
    Ok,
    Payload,
    Received,
    Refuse,
    Settle,
    Verdict,
    Withdraw,
    decode,
)
from escrow.payout import Branch, Split, build_payout, check_split, payout_rates, refund, release
from p2pnode.base.errors import InvalidRecord, PeerFault
from p2pnode.base.transaction import Outpoint

Pair = tuple[bytes, bytes]  # at the contract's rate, at the raised one


class Bench(Protocol):
    """Keys and second opinions of one trade. Raises PeerFault for a peer's bad signature."""

    def check_witnesses(
        self, funding: Funding, side: Owner, stacks: tuple[tuple[bytes, ...], ...]
    ) -> None:
        """Check the peer's witness stacks by Bitcoin Core's rules, sighash ALL or DEFAULT."""
        ...

    def assemble(
        self,
        funding: Funding,
        stacks_b: tuple[tuple[bytes, ...], ...],
        stacks_s: tuple[tuple[bytes, ...], ...],
    ) -> bytes:
        """Return the final funding, every input checked by Bitcoin Core's rules."""
        ...

    def check_first(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        signer: bytes,
        signatures: Pair,
        branch: Branch = Branch.MAIN,
    ) -> None:
        """Check first signatures on the payouts that we rebuild ourselves."""
        ...

    def complete(
        self,
        contract: Contract,
        outpoint: Outpoint,
        split: Split,
        signer: bytes,
        signatures: Pair,
        branch: Branch = Branch.MAIN,
    ) -> Pair:
        """Add our signatures and return the final payouts, checked by Bitcoin Core's rules."""
        ...


@dataclass(frozen=True, kw_only=True)
class World:
    """Our side of the comparison besides the facts."""

    bench: Bench
    tip_height: int
    merkle_root: Callable[[int], bytes | None]
    own_rate: int | None  # our fee estimate, sat/vB
    is_ours: Callable[[bytes], bool]  # a script of our wallet
    is_busy: Callable[[Outpoint], bool]  # declared in another trade that lives
    check_account: Callable[[bytes, bytes, str], None]  # disclosure, account hash, method
    lost: bool = False  # we have lost data of this trade, perhaps a NOTICE


@dataclass(frozen=True, slots=True)
class Examined:
    """What the examination made: transactions that we completed, records that we learned.

    `payload` is what a FORWARD carries, in place of the FORWARD itself.
    """

    final: bytes = b""
    raised: bytes = b""
    records: tuple[ArbiterRecord, ...] = ()
    payload: Payload | None = None


def settling(message: Message, payload: Payload, facts: Facts, world: World) -> Examined:
    """Compare one message of the settlement; `facts` hold it already, as the last."""
    match payload:
        case Account():
            buyer = message.sender == facts.buyer
            contract = facts.contract
            account_hash = contract.account_hash_b if buyer else contract.account_hash_s
            world.check_account(payload.disclosure, account_hash, contract.method)
        case Ack():
            mine = facts.one(facts.me, Kind.ACCOUNT)
            if mine is None or payload.account_id != mine.id:
                raise InvalidRecord("account_id", "is not our ACCOUNT")
        case Notice():
            _notice(payload, message, facts)
        case Ask():
            _ask(payload, message, facts)
        case Withdraw(ask_id=ask_id):
            _named("ask_id", ask_id, facts.all(message.sender, Kind.ASK), "an ASK of its sender")
        case Ok(ask_id=ask_id):
            _named("ask_id", ask_id, facts.all(facts.me, Kind.ASK), "an ASK of ours")
        case Refuse(refused_id=refused_id):
            _named("refused_id", refused_id, facts.all(facts.me, Kind.ASK), "an ASK of ours")
        case Cover(covered_id=covered_id):
            told = (*facts.all(facts.me, Kind.WITHDRAW), *facts.all(facts.me, Kind.OK))
            _named("covered_id", covered_id, told, "a WITHDRAW or OK of ours")
        case Verdict():
            _verdict(payload, message.sender, facts, world)
        case Received():
            return _released(payload, facts, world)
        case Settle():
            return _settled(payload, message.sender, facts, world)
        case Forward():
            return _forwarded(payload, message, facts, world)
        case _:
            _words(message, facts)
    return Examined()


def _named(field: str, wanted: bytes, found: tuple[Message, ...], what: str) -> None:
    if wanted not in {m.id for m in found}:
        raise InvalidRecord(field, f"is not {what}")


def _ask(payload: Ask, message: Message, facts: Facts) -> None:
    contract = facts.contract
    earlier = replace(facts, messages=tuple(m for m in facts.messages if m.id != message.id))
    if earlier.asked(message.sender):
        raise PeerFault("ASK while another of its sender is open")
    split = Split(payload.buyer_sat, payload.seller_sat, 0)
    if split.buyer_sat + split.seller_sat != contract.escrow_sat:
        raise InvalidRecord("seller_sat", f"and buyer_sat do not sum to {contract.escrow_sat} sat")
    for rate in payout_rates(contract):  # an end that cannot be paid is no end
        build_payout(contract, facts.outpoint, split, rate)


def _verdict(payload: Verdict, sender: bytes, facts: Facts, world: World) -> None:
    contract = facts.contract
    split = Split(payload.buyer_sat, payload.seller_sat, payload.arbiter_sat)
    first = sender == contract.arbiter
    branch, key, fee = (
        (Branch.MAIN, contract.key_a, contract.fee_a)
        if first
        else (Branch.BACKUP, contract.key_a2, contract.fee_a2)
    )
    check_split(contract, split, branch)
    if split.arbiter_sat != fee:
        raise InvalidRecord("arbiter_sat", f"is not the contract's fee of {fee} sat")
    world.bench.check_first(contract, facts.outpoint, split, key, payload.signatures, branch)


def _released(payload: Received, facts: Facts, world: World) -> Examined:
    contract = facts.contract
    return Examined(
        *world.bench.complete(
            contract, facts.outpoint, release(contract), contract.key_s, payload.signatures
        )
    )


def _settled(payload: Settle, sender: bytes, facts: Facts, world: World) -> Examined:
    """First signatures on an agreed split, or the buyer's own on REFUND."""
    contract, agreed = facts.contract, facts.agreed
    if payload.ok_id == ZERO:
        if sender != facts.buyer:
            raise InvalidRecord("ok_id", "is zero, and only the buyer gives a refund by himself")
        split = refund(contract)
    else:
        if agreed is None or agreed.ok is None or agreed.ok.id != payload.ok_id:
            raise InvalidRecord("ok_id", "is not the OK that binds this trade")
        by_buyer = accord.first_signer_is_buyer(agreed.buyer_sat, agreed.seller_sat)
        if by_buyer != (sender == facts.buyer):
            raise PeerFault("SETTLE is not its sender's to sign first")
        split = Split(agreed.buyer_sat, agreed.seller_sat, 0)
    key = contract.key_b if sender == facts.buyer else contract.key_s
    return Examined(*world.bench.complete(contract, facts.outpoint, split, key, payload.signatures))


def _forwarded(payload: Forward, message: Message, facts: Facts, world: World) -> Examined:
    """What an arbiter hands on: a first signature, an agreement, or a verdict of his own."""
    inner = tuple(Message.from_wire(raw, facts.network) for raw in payload.messages)
    last, traders = inner[-1], {facts.maker, facts.taker}
    for m in inner:
        parties = {m.sender, m.recipient}
        own = m.sender == message.sender and m.recipient in traders
        if m.trade != facts.take.id or not (parties == traders or own):
            raise InvalidRecord("messages", "hold one that is not of this trade")
    if len(inner) == 3 and inner[1].kind is Kind.OK and last.kind is not Kind.SETTLE:
        # an agreement, and any word of the asker that covers it: we are asked to sign, and know it
        return Examined(payload=decode(Kind.OK, inner[1].payload))
    found = decode(last.kind, last.payload)
    match found:
        case Verdict() if last.sender == message.sender:
            said = facts.all(last.sender, Kind.VERDICT)
            if any(m.id != last.id and m.payload != last.payload for m in said):
                raise PeerFault("messages: hold another verdict than the arbiter's first (R5)")
            _verdict(found, last.sender, facts, world)
            return Examined(payload=found)
        case Received() if last.sender == facts.seller and facts.me == facts.buyer:
            made = _released(found, facts, world)
            return Examined(made.final, made.raised, payload=found)
        case Settle() if last.sender == facts.peer:
            made = _settled(found, last.sender, facts, world)
            return Examined(made.final, made.raised, payload=found)
        case _:
            raise InvalidRecord("messages", "hold nothing that is for us to act on")


def _notice(payload: Notice, message: Message, facts: Facts) -> None:
    if payload.opener not in (facts.maker, facts.taker):
        raise InvalidRecord("opener", "is no party of this trade")
    if payload.opener == facts.me:
        ours = facts.all(facts.me, Kind.DISPUTE)
        called = {m.id for m in ours if m.recipient == message.sender}
        if payload.dispute_id not in called:
            raise InvalidRecord("dispute_id", "is not our DISPUTE")


def _words(message: Message, facts: Facts) -> None:
    if message.kind is Kind.ABORT and facts.one(message.sender, Kind.WITNESS):
        raise PeerFault("ABORT after the sender's own funding signature")
    if message.kind is Kind.PAID:
        if facts.one(message.sender, Kind.NOT_PAID):
            raise PeerFault("PAID after NOT_PAID")
        if not facts.one(message.sender, Kind.ACK):
            raise PeerFault("PAID before any ACK of our payment details")
    if message.kind is Kind.NOT_PAID and facts.one(message.sender, Kind.PAID):
        raise PeerFault("NOT_PAID after PAID")
