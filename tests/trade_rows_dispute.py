"""Attacks on DISPUTE, NOTICE, STATEMENT, FORWARD and VERDICT: a row each."""

from collections.abc import Iterator
from typing import Any

from trade_campaign import (
    STRANGER,
    Forge,
    Row,
    Scene,
    flip,
    high_s,
)
from trade_kit import NET, resigned
from trade_rows_funding import declared, spare
from trade_rows_header import text_rows

from escrow.backend_signatures import first_sign
from escrow.contract import Contract
from escrow.messages import ZERO, Kind, Message
from escrow.payout import refund, release, verdict_split
from p2pnode.base import wire

K = Kind
HUGE = 2**64 - 1
OVER = 2**63
SEVENS = b"\7" * 32
CONTROL = "left\u202eright"


def rechained(s: Scene, raws: list[bytes], kind: Kind, payload: bytes) -> list[bytes]:
    """The thief's own chain rewritten from his message of `kind` on, and signed anew."""
    out, prev, started = [], ZERO, False
    for raw in raws:
        message = Message.from_wire(raw, NET)
        if message.sender == s.thief.id:
            if message.kind is kind:
                started, raw = True, resigned(message, s.thief.identity, payload=payload)
            elif started:
                raw = resigned(message, s.thief.identity, prev=prev)
            prev = Message.from_wire(raw, NET).id
        out.append(raw)
    return out


async def other_inputs(s: Scene) -> bytes:
    """The opener's own coins swapped in the papers: another funding, which is on no chain."""
    payload = s.payload
    said = s.thief.said(s.trade_id, K.INPUTS)
    assert said is not None
    array = list(wire.unpack("inputs", said.payload, limit=1 << 20))
    coin = await declared(s.thief, spare(s.thief)[0])
    array[0] = ((*coin[:4], tuple(coin[4])),)
    payload[1] = rechained(s, payload[1], K.INPUTS, wire.pack(tuple(array)))
    return s.saying(payload)


def foreign_paper(s: Scene) -> bytes:
    tip = s.thief.chain.tip()
    message = Message(
        network=NET, kind=K.PAID, trade_id=SEVENS, sender=s.thief.id, recipient=s.rig["maker"].id,
        seq=0, prev=ZERO, seen=ZERO, tip_height=tip.height, tip_hash=tip.hash, draw_no=0,
        payload=wire.pack(["x"]),
    ).signed(s.thief.identity)  # fmt: skip
    return s.set(1, to=lambda papers: [*papers, message.wire()])


def dispute_contract(line: str) -> Forge:
    def forge(s: Scene) -> bytes:
        array = list(wire.unpack("contract", s.payload[0], limit=4096))
        index = Contract.line_names().index(line)
        array[index] = array[index] + 1 if isinstance(array[index], int) else flip(array[index])
        return s.set(0, to=wire.pack(array))

    return forge


def dispute_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str, **options: Any) -> Row:
        return Row(K.DISPUTE, name, forge, words, **options)

    for line in (
        "amount_sat",
        "dep_b",
        "fee_a",
        "key_b",
        "key_a",
        "script_s",
        "seed",
        "bond_a2",
        "period_s",
        "rate",
        "reveal_id",
        "account_hash_s",
    ):
        yield row(f"contract with another {line}", dispute_contract(line), f"{line}|dep_b: is not")
    yield row("contract empty", lambda s: s.set(0, to=b""), "contract")
    yield row("papers without the TAKE", lambda s: s.set(1, to=lambda p: p[1:]), "messages")
    yield row("papers with a gap", lambda s: s.set(1, to=lambda p: p[:3] + p[4:]), "messages")
    yield row("papers with one twice", lambda s: s.set(1, to=lambda p: [*p, p[-1]]), "messages")
    yield row("papers without INPUTS", lambda s: s.set(1, to=lambda p: p[:-9]), "messages")
    yield row("papers of another trade", foreign_paper, "messages")
    yield row("papers with a byte changed", lambda s: s.set(1, 0, to=flip), ".")
    yield row("101 papers", lambda s: s.set(1, to=lambda p: p * 10), "messages")
    yield row("four papers", lambda s: s.set(1, to=lambda p: p[:4]), "messages")
    yield row("no records", lambda s: s.set(2, to=[]), "records")
    yield row("a record lacking", lambda s: s.set(2, to=lambda r: r[1:]), "records")
    yield row("a record altered", lambda s: s.set(2, 0, to=flip), "key_sig")
    yield row("another funding", other_inputs, "funding is not on our chain", later=True)
    yield from text_rows(K.DISPUTE, 3, "statement", 4000, 1)


def as_other_arbiter(s: Scene) -> tuple[str, bytes]:
    other = s.other_arbiter
    return other.name, resigned(
        s.message, other.identity, sender=other.id, seq=0, prev=ZERO, seen=ZERO
    )


def as_peer(s: Scene) -> tuple[str, bytes]:
    facts = s.victim.facts(s.trade_id)
    peer = s.rig.by_id(facts.peer)
    message = peer.next_message(s.trade_id, s.victim.id, s.message.kind, s.message.payload)
    return peer.name, message.wire()


def verdict(change: Any, *, key: Any = None) -> Forge:
    """The arbiter's key over one split, beside the words of another."""

    def forge(s: Scene) -> bytes:
        facts = s.victim.facts(s.trade_id)
        contract, payload = facts.contract, s.payload
        seed, bond = contract.seed, contract.bond_a
        signer = key(s) if key else s.thief.exchange.world.keys.arbiter_key(seed, bond)
        split = change(contract)
        payload[3] = first_sign(contract, facts.outpoint, split, None, signer)
        return s.saying(payload)

    return forge


def verdict_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(K.VERDICT, name, forge, words)

    for index, name in enumerate(("buyer_sat", "seller_sat", "arbiter_sat")):
        for number in (-1, 21 * 10**14 + 1, OVER):
            yield row(f"{name} {number}", lambda s, i=index, n=number: s.set(i, to=n), name)
        for step in (1, -1):
            change = lambda s, i=index, d=step: s.set(i, to=lambda v: v + d)  # noqa: E731
            yield row(f"{name} off by {step}", change, "split|_sat")
    yield row("all to nobody", lambda s: s.saying([0, 0, 0, *s.payload[3:]]), "split|_sat")
    yield row(
        "a satoshi moved, signature as it was",
        lambda s: s.saying([s.payload[0] - 1, s.payload[1] + 1, *s.payload[2:]]),
        "signature",
    )
    yield row(
        "no fee for the arbiter",
        lambda s: s.saying([s.payload[0] + s.payload[2], s.payload[1], 0, *s.payload[3:]]),
        "arbiter_sat",
    )
    yield row("signature over REFUND", verdict(refund), "signature")
    yield row("signature over RELEASE", verdict(release), "signature")
    yield row(
        "signature over a satoshi more",
        verdict(lambda c: verdict_split(c, release(c).buyer_sat - 1)),
        "signature",
    )
    yield row("signature of high S", lambda s: s.set(3, to=high_s), "signature.*high S")
    for number, name in ((2, "NONE"), (3, "SINGLE"), (0x81, "ANYONECANPAY")):
        yield row(
            f"sighash {name}",
            lambda s, n=number: s.set(3, to=lambda x: x[:-1] + bytes([n])),
            "sighash",
        )
    yield row("by an arbiter not drawn", as_other_arbiter, "VERDICT is not for")
    yield row("by the other trader", as_peer, "VERDICT is not for")
    yield from text_rows(K.VERDICT, 4, "reason", 4000, 1)


def hearing_rows() -> Iterator[Row]:
    yield Row(K.NOTICE, "opened by a stranger", lambda s: s.set(1, to=STRANGER.node_id), "opener")
    yield Row(
        K.NOTICE,
        "of a dispute that we never opened",
        lambda s: s.saying([SEVENS, s.victim.id, "he says so"]),
        "dispute_id",
    )
    yield Row(K.NOTICE, "by an arbiter not drawn", as_other_arbiter, "NOTICE is not for")
    yield Row(K.NOTICE, "by the other trader", as_peer, "NOTICE is not for")
    yield Row(
        K.NOTICE,
        "VERDICT before it",
        lambda s: s.saying([0, 0, 0, b"x" * 70, "quick"], K.VERDICT),
        ".",
    )
    yield from text_rows(K.NOTICE, 2, "statement", 4000, 1)
    yield Row(K.STATEMENT, "papers with a gap", lambda s: s.set(1, to=lambda p: p[1:]), "messages")
    yield Row(K.STATEMENT, "papers altered", lambda s: s.set(1, 0, to=flip), ".")
    yield Row(
        K.STATEMENT,
        "by a stranger",
        lambda s: (
            "stranger",
            resigned(s.message, s.rig["stranger"].identity, sender=s.rig["stranger"].id, seen=ZERO),
        ),
        "sender",
    )
    yield Row(K.STATEMENT, "PAID told to the arbiter", lambda s: s.saying(["x"], K.PAID), "PAID")
    yield from text_rows(K.STATEMENT, 0, "statement", 4000, 1)


def forward_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(K.FORWARD, name, forge, words)

    def paper(kind: Kind, role: str = "maker") -> Forge:
        def forge(s: Scene) -> bytes:
            found = s.rig[role].said(s.trade_id, kind)
            assert found is not None
            return s.set(0, to=found.wire())

        return forge

    def bad_signature(s: Scene) -> bytes:
        received = s.rig["maker"].said(s.trade_id, K.RECEIVED)
        assert received is not None
        (signature,) = wire.unpack("received", received.payload, limit=200)
        key = s.rig["maker"].identity
        forged = resigned(received, key, payload=wire.pack([high_s(signature)]))
        return s.set(0, to=forged)

    yield row("of something else", paper(K.ACCOUNT), "message")
    yield row("of the buyer's own words", paper(K.PAID, "taker"), "message")
    yield row("of bytes", lambda s: s.set(0, to=b"\x90"), "message")
    yield row("of nothing", lambda s: s.set(0, to=b""), "message")
    yield row("altered", lambda s: s.set(0, to=flip), ".")
    yield row("with a signature of high S", bad_signature, "signature.*high S")
    yield row("by an arbiter not drawn", as_other_arbiter, "FORWARD is not for")
    yield row("by the seller", as_peer, "FORWARD is not for")
