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
from trade_rows_payment import pair_rows

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


def _recused(s: Scene, trade_id: bytes, to: bytes) -> bytes:
    """The arbiter's own word, signed by him, and not for this trader or trade."""
    arbiter = s.victim
    tip = arbiter.chain.tip()
    message = Message(
        network=NET, kind=K.RECUSE, trade_id=trade_id, sender=arbiter.id, recipient=to,
        seq=0, prev=ZERO, seen=ZERO, tip_height=tip.height, tip_hash=tip.hash, draw_no=0,
        payload=wire.pack(["x"]),
    ).signed(arbiter.identity)  # fmt: skip
    return message.wire()


def ruling_to_another(s: Scene) -> bytes:
    return s.set(3, to=[_recused(s, s.trade_id, s.rig["maker"].id)])


def ruling_elsewhere(s: Scene) -> bytes:
    return s.set(3, to=[_recused(s, SEVENS, s.thief.id)])


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
        yield row(
            f"contract with another {line}", dispute_contract(line), f"{line}|dep_b: is not|^n: "
        )
    yield row("contract empty", lambda s: s.set(0, to=b""), "contract")
    yield row("papers without the TAKE", lambda s: s.set(1, to=lambda p: p[1:]), "messages")
    yield row("papers with a gap", lambda s: s.set(1, to=lambda p: p[:3] + p[4:]), "messages")
    yield row("papers with one twice", lambda s: s.set(1, to=lambda p: [*p, p[-1]]), "messages")
    yield row("papers without INPUTS", lambda s: s.set(1, to=lambda p: p[:-9]), "messages")
    yield row("papers of another trade", foreign_paper, "messages")
    yield row("papers with a byte changed", lambda s: s.set(1, 0, to=flip), ".")
    yield row("241 papers", lambda s: s.set(1, to=lambda p: (p * 20)[:241]), "messages")
    yield row("four papers", lambda s: s.set(1, to=lambda p: p[:4]), "messages")
    yield row("no records", lambda s: s.set(2, to=[]), "records")
    yield row("a record lacking", lambda s: s.set(2, to=lambda r: r[1:]), "records")
    yield row("a record altered", lambda s: s.set(2, 0, to=flip), "record")
    yield row("another funding", other_inputs, "funding is not on our chain", later=True)
    yield row("a paper as ruling", lambda s: s.set(3, to=[s.payload[1][0]]), "rulings")
    yield row("a ruling of bytes", lambda s: s.set(3, to=[b"\x90"]), ".")
    yield row("nine rulings", lambda s: s.set(3, to=[s.payload[1][0]] * 9), "rulings")
    yield row("a ruling empty", lambda s: s.set(3, to=[b""]), "rulings")
    yield row("an arbiter's word to another", ruling_to_another, "rulings")
    yield row("an arbiter's word of another trade", ruling_elsewhere, "rulings")
    yield row("401 records", lambda s: s.set(2, to=[b"x"] * 401), "records")
    yield row("a record of 1,401 bytes", lambda s: s.set(2, 0, to=b"x" * 1401), "records")
    yield from text_rows(K.DISPUTE, 4, "statement", 4000, 0)


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


def as_runner_up(s: Scene) -> tuple[str, bytes]:
    """The runner-up's own words in the arbiter's place."""
    second = s.rig[s.rig.runner_up(s.trade_id)]
    return second.name, resigned(
        s.message, second.identity, sender=second.id, seq=0, prev=ZERO, seen=ZERO
    )


def verdict(change: Any, *, key: Any = None) -> Forge:
    """The arbiter's key over one split, beside the words of another."""

    def forge(s: Scene) -> bytes:
        facts = s.victim.facts(s.trade_id)
        contract, payload = facts.contract, s.payload
        seed, bond = contract.seed, contract.bond_a
        signer = key(s) if key else s.thief.exchange.world.keys.arbiter_key(seed, bond)
        split = change(contract)
        payload[3] = list(first_sign(contract, facts.outpoint, split, signer))
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
    yield Row(K.VERDICT, "by the runner-up", as_runner_up, "before the timelock's end", later=True)
    yield from pair_rows(K.VERDICT, 3)
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
        lambda s: s.saying([0, 0, 0, [b"x" * 70] * 2, "quick"], K.VERDICT),
        ".",
    )
    early = lambda s, k, p: s.saying(p, k)  # noqa: E731
    for kind, words in ((K.RECUSE, ["no"]), (K.CHAT, ["well?"]), (K.FORWARD, [[b"x"]])):
        forge: Forge = lambda s, k=kind, w=words: early(s, k, w)  # noqa: E731
        yield Row(K.NOTICE, f"{kind.name} before it", forge, f"{kind.name} before any NOTICE")
    yield Row(K.NOTICE, "by the runner-up", as_runner_up, "runner-up", later=True)
    yield Row(K.NOTICE, "dispute id short", lambda s: s.set(0, to=SEVENS[1:]), "dispute_id")
    yield from text_rows(K.NOTICE, 2, "statement", 4000, 0)
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
    for kind, said in told_to_nobody():
        shape: Forge = lambda s, k=kind, p=said: s.saying(p, k)  # noqa: E731
        yield Row(K.STATEMENT, f"{kind.name} told to the arbiter", shape, kind.name)
    yield Row(K.STATEMENT, "a paper as ruling", lambda s: s.set(2, to=[s.payload[1][0]]), "rulings")
    yield Row(K.STATEMENT, "241 papers", lambda s: s.set(1, to=(s.payload[1] * 20)[:241]), "mess")
    yield from text_rows(K.STATEMENT, 0, "statement", 4000, 0)


def told_to_nobody() -> Iterator[tuple[Kind, list[Any]]]:
    """Kinds that have no place between a trader and an arbiter."""
    pair = [b"x" * 70, b"x" * 70]
    yield from ((k, [SEVENS]) for k in (K.WITHDRAW, K.OK, K.COVER, K.ENQUIRY))
    yield K.ASK, [1, 1, ""]
    yield K.SETTLE, [SEVENS, pair]
    yield K.RECEIVED, [pair]
    yield K.RECUSE, ["I know him"]
    yield K.VERDICT, [0, 0, 0, pair, "so"]
    yield K.NOTICE, [SEVENS, SEVENS, "x"]


def evidence_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(K.EVIDENCE, name, forge, words)

    yield row("hash short", lambda s: s.set(0, to=SEVENS[1:]), "file_hash")
    for number in (0, -1, (1 << 20) + 1, OVER):
        yield row(f"size {number}", lambda s, n=number: s.set(2, to=n), "size")
    for step in (1, -1):
        yield row(f"size off by {step}", lambda s, d=step: s.set(2, to=lambda v: v + d), "data")
    for number in (-1, 1, 16, OVER):
        yield row(f"part {number}", lambda s, n=number: s.set(3, to=n), "part")
    yield row("no data", lambda s: s.set(4, to=b""), "data")
    yield row("data a byte short", lambda s: s.set(4, to=lambda d: d[:-1]), "data")
    yield row("data a byte longer", lambda s: s.set(4, to=lambda d: d + b"x"), "data")
    yield row("65,537 bytes of data", lambda s: s.set(4, to=b"x" * 65_537), "data")
    yield from text_rows(K.EVIDENCE, 1, "name", 128, 1)


def forward_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(K.FORWARD, name, forge, words)

    def paper(kind: Kind, role: str = "maker") -> Forge:
        def forge(s: Scene) -> bytes:
            found = s.rig[role].said(s.trade_id, kind)
            assert found is not None
            return s.set(0, to=[found.wire()])

        return forge

    def bad_signature(s: Scene) -> bytes:
        received = s.rig["maker"].said(s.trade_id, K.RECEIVED)
        assert received is not None
        (pair,) = wire.unpack("received", received.payload, limit=400)
        key = s.rig["maker"].identity
        forged = resigned(received, key, payload=wire.pack([[pair[0], high_s(pair[1])]]))
        return s.set(0, to=[forged])

    def elsewhere(s: Scene) -> bytes:
        received = s.rig["maker"].said(s.trade_id, K.RECEIVED)
        assert received is not None
        return s.set(0, to=[resigned(received, s.rig["maker"].identity, trade_id=SEVENS)])

    def own_word(s: Scene) -> bytes:
        """The arbiter's NOTICE, which is no verdict."""
        said = s.thief.said(s.trade_id, K.NOTICE)
        assert said is not None
        return s.set(0, to=[said.wire()])

    yield row("of something else", paper(K.ACCOUNT), "message")
    yield row("of the buyer's own words", paper(K.PAID, "taker"), "message")
    yield row("of his own NOTICE", own_word, "message")
    yield row("of another trade", elsewhere, "message")
    yield row("of bytes", lambda s: s.set(0, to=[b"\x90"]), "message")
    yield row("of an empty one", lambda s: s.set(0, to=[b""]), "message")
    yield row("of nothing", lambda s: s.set(0, to=[]), "message")
    yield row("of five", lambda s: s.set(0, to=lambda m: m * 5), "message")
    yield row("altered", lambda s: s.set(0, 0, to=flip), ".")
    yield row("with a raised signature of high S", bad_signature, "signature.*high S")
    yield row("by an arbiter not drawn", as_other_arbiter, "FORWARD is not for")
    yield row("by the seller", as_peer, "FORWARD is not for")
