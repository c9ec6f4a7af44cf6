"""Attacks on CONTRACT, INPUTS and WITNESS: a row each."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from trade_campaign import (
    Forge,
    Row,
    Scene,
    ecdsa,
    flip,
    high_s,
)
from trade_kit import NET, Node

from escrow.contract import Contract
from escrow.messages import Kind
from escrow.script import escrow_script
from escrow.sighash import sighash
from p2pnode.base import wire
from p2pnode.base.transaction import Outpoint, TxOut

K = Kind
HUGE = 2**64 - 1
OVER = 2**63
SEVENS = b"\7" * 32
CONTROL = "left\u202eright"


async def declared(node: Node, coin: Any) -> list[Any]:
    found = (await node.exchange.world.purse.declared(coin.outpoint)).array()
    return [*found[:4], list(found[4])]


def spare(node: Node) -> list[Any]:
    """Confirmed coins that the trade does not use, the largest first."""
    return sorted(node.wallet.coins(), key=lambda c: -c.value)


def resigned_contract(s: Scene, array: list[Any]) -> bytes:
    hashed = wire.digest(wire.tag(NET.name, "contract"), array)
    return s.saying([wire.pack(array), s.thief.trade_key(s.trade_id).sign_schnorr(hashed)])


def altered(index: int) -> Forge:
    def forge(s: Scene) -> bytes:
        array = list(wire.unpack("contract", s.payload[0], limit=4096))
        value = array[index]
        other = {"EUR": "USD", "CUSTOM": "SEPA", "sandbox": "regtest"}
        other["wsh-2of3-backup"] = "wsh-2of3"
        if isinstance(value, int):
            array[index] = value + 1
        else:
            array[index] = other[value] if isinstance(value, str) else flip(value)
        return resigned_contract(s, array)

    return forge


def swapped_arbiter(s: Scene) -> bytes:
    """The attacker's friend for the arbiter that was drawn: key, bond and fee together."""
    contract = Contract.from_wire(s.payload[0], NET)
    friend = s.other_arbiter
    key = s.rig["stranger"].trade_key(s.trade_id).public
    other = replace(contract, key_a=key, bond_a=friend.id + b"\xff" * 4, bond_a2=contract.bond_a)
    return resigned_contract(s, list(other.array()))


def contract_rows() -> Iterator[Row]:
    for index, line in enumerate(Contract.line_names()):
        yield Row(K.CONTRACT, f"{line} altered", altered(index), rf"\b{line}\b|taker is the maker")
    yield Row(K.CONTRACT, "another arbiter", swapped_arbiter, "key_a|bond_a")
    yield Row(K.CONTRACT, "signature altered", lambda s: s.set(1, to=flip), "signature")
    yield Row(K.CONTRACT, "signature short", lambda s: s.set(1, to=b"x" * 63), "signature")
    yield Row(
        K.CONTRACT,
        "signed by the identity's key",
        lambda s: s.set(1, to=s.thief.identity.sign(s.payload[0])),
        "signature",
    )
    yield Row(K.CONTRACT, "empty", lambda s: s.set(0, to=b""), "contract")
    yield Row(K.CONTRACT, "of 2,049 bytes", lambda s: s.set(0, to=b"x" * 2049), "contract")


async def coin_of_victim(s: Scene) -> bytes:
    return s.set(0, to=[await declared(s.victim, spare(s.victim)[0])])


async def coin_of_another_trade(s: Scene) -> bytes:
    coin = spare(s.thief)[0]
    s.victim.journal.bind_coins(b"\5" * 32, [coin.outpoint])
    return s.set(0, to=[await declared(s.thief, coin)])


async def coin_too_small(s: Scene) -> bytes:
    return s.set(0, to=[await declared(s.thief, spare(s.thief)[-1])])


async def coin_unconfirmed(s: Scene) -> bytes:
    payload = s.payload
    tx = s.rig.box.fund(s.thief.wallet.script_for_payout(), 2_000_000)
    vout = next(n for n, o in enumerate(tx.outputs) if o.value == 2_000_000)
    coin = payload[0][0]
    coin[0], coin[1] = Outpoint(tx.txid, vout).wire(), tx.serialize(witness=False)
    return s.saying(payload)


async def coin_twice(s: Scene) -> bytes:
    return s.set(0, to=lambda coins: [coins[0], coins[0]])


async def coins_descending(s: Scene) -> bytes:
    both = [s.payload[0][0], await declared(s.thief, spare(s.thief)[0])]
    return s.set(0, to=sorted(both, reverse=True))


def fake_previous(s: Scene) -> bytes:
    """More satoshi in the previous transaction than it has."""
    raw = s.payload[0][0][1]
    return s.set(
        0, 0, 1, to=raw.replace((3_000_000).to_bytes(8, "little"), OVER.to_bytes(8, "big"))
    )


def change_to(script: Any) -> Forge:
    return lambda s: s.set(1, to=script(s))


def input_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str, **options: Any) -> Row:
        return Row(K.INPUTS, name, forge, words, **options)

    coin = lambda index, to: lambda s: s.set(0, 0, index, to=to)  # noqa: E731
    yield row("our own coin", coin_of_victim, "inputs.*ours")
    yield row("a coin of another trade", coin_of_another_trade, "inputs.*another trade")
    yield row("a coin too small", coin_too_small, "inputs_[bs]")
    yield row("a coin unconfirmed", coin_unconfirmed, "inputs.*branch")
    yield row("a coin twice", coin_twice, "inputs")
    yield row("coins descending", coins_descending, "inputs")
    yield row("no coin", lambda s: s.set(0, to=[]), "inputs")
    yield row("nine coins", lambda s: s.set(0, to=lambda c: c * 9), "inputs")
    yield row("outpoint short", coin(0, b"x" * 35), "outpoint")
    yield row("outpoint of another transaction", coin(0, SEVENS + bytes(4)), "transaction")
    yield row("output that does not exist", coin(0, lambda p: p[:32] + b"\0\0\0\x63"), "outpoint")
    yield row("previous transaction altered", fake_previous, "inputs")
    yield row("previous transaction cut", coin(1, lambda raw: raw[:-1]), "inputs|prev_tx")
    yield row("previous transaction of 59 bytes", coin(1, b"x" * 59), "prev_tx")
    yield row("previous transaction too long", coin(1, b"x" * 100_001), "prev_tx")
    for number in (0, -1, 500_000_000, OVER):
        yield row(f"height {number}", coin(2, number), "height")
    yield row(
        "height above our tip",
        lambda s: s.set(0, 0, 2, to=s.rig.box.height + 1),
        "inputs",
        later=True,
    )
    yield row("height off by -1", coin(2, lambda h: h - 1), "branch")
    for number in (-1, 2**20 + 1, OVER):
        yield row(f"position {number}", coin(3, number), "position")
    yield row("position off by 1", coin(3, lambda p: p + 1), "branch|position")
    yield row("branch altered", coin(4, lambda b: [flip(b[0]), *b[1:]]), "branch")
    yield row("branch shorter", coin(4, lambda b: b[:-1]), "branch")
    yield row("branch of 21", coin(4, [SEVENS] * 21), "branch")
    contract = lambda s: s.victim.facts(s.trade_id).contract  # noqa: E731
    yield row(
        "change to our own script",
        change_to(lambda s: s.victim.wallet.script_for_payout()),
        "change_script",
    )
    yield row(
        "change to P2SH", change_to(lambda s: b"\xa9\x14" + b"\1" * 20 + b"\x87"), "change_script"
    )
    yield row("change to nothing", change_to(lambda s: b""), "change_script")
    for line in ("script_b", "script_s"):
        yield row(
            f"change to {line}", change_to(lambda s, x=line: getattr(contract(s), x)), "change_"
        )
    yield row("change to the escrow", change_to(lambda s: escrow_script(contract(s))), "change_")


def over_another_transaction(change: Any) -> Forge:
    """A good signature by the coin's own key, over a funding that we did not build."""

    def forge(s: Scene) -> bytes:
        facts = s.victim.facts(s.trade_id)
        funding = facts.funding
        side = "B" if s.message.sender == facts.buyer else "S"
        index = funding.own(side)[0]
        tx = change(funding.tx, facts.contract, s)
        spent = funding.prevouts[index]
        digest = sighash(tx, index, funding.prevouts, None)
        return s.set(0, 0, 0, to=ecdsa(s.thief.coin_key(spent.script), digest))

    return forge


def to_the_thief(tx: Any, contract: Contract, s: Scene) -> Any:
    theft = TxOut(contract.escrow_sat, s.payload[0][0][1][:0] + b"\0\x14" + b"\6" * 20)
    outputs = tuple(theft if o.value == contract.escrow_sat else o for o in tx.outputs)
    return replace(tx, outputs=outputs)


def sighash_byte(number: int) -> Forge:
    return lambda s: s.set(0, 0, 0, to=lambda sig: sig[:-1] + bytes([number]))


def witness_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(K.WITNESS, name, forge, words)

    for number, name in ((2, "NONE"), (3, "SINGLE"), (0x81, "ANYONECANPAY"), (0, "0")):
        yield row(f"sighash {name}", sighash_byte(number), "witness.*sighash")
    yield row("signature of high S", lambda s: s.set(0, 0, 0, to=high_s), "witness.*high S")
    yield row(
        "signature altered",
        lambda s: s.set(0, 0, 0, to=lambda x: x[:40] + flip(x[40:41]) + x[41:]),
        "witness",
    )
    yield row("key of another coin", lambda s: s.set(0, 0, 1, to=b"\2" + SEVENS), "witness.*key")
    yield row("foreign output", over_another_transaction(to_the_thief), "witness")
    yield row(
        "escrow of one satoshi less",
        over_another_transaction(
            lambda tx, c, s: replace(
                tx, outputs=tuple(replace(o, value=o.value - 1) for o in tx.outputs)
            )
        ),
        "witness",
    )
    yield row(
        "another locktime",
        over_another_transaction(lambda tx, c, s: replace(tx, locktime=tx.locktime + 1)),
        "witness",
    )
    yield row("no stack", lambda s: s.set(0, to=[]), "witness_")
    yield row("a stack too many", lambda s: s.set(0, to=lambda x: [*x, x[0]]), "witness")
    yield row("nine stacks", lambda s: s.set(0, to=lambda x: x * 9), "stacks")
    yield row("a stack of three", lambda s: s.set(0, 0, to=lambda x: [*x, x[0]]), "stacks")
    yield row("a stack without its key", lambda s: s.set(0, 0, to=lambda x: x[:1]), "witness")
    yield row("ABORT of too many words", lambda s: s.saying(["x" * 257], K.ABORT), "reason")
