"""Signatures leave for the inputs that were named, over what our chain shows, and no others."""

from dataclasses import replace
from typing import Any

import pytest
import trio
from chain_kit import SCRIPT, Purse, Rig, rig

from escrow import psbt
from escrow.psbt import PsbtInput
from p2pnode.base.errors import InvalidRecord, Unreachable
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut

COIN = 100_000_000


class Joint:
    """A joint transaction: inputs 0 and 1 ours, input 2 the peer's."""

    def __init__(self, r: Rig) -> None:
        self.rig, self.ours, self.peer = r, Purse(r), Purse(r, words="zoo " * 11 + "wrong")
        self.tx: Transaction
        self.told: list[PsbtInput]

    async def make(self) -> None:
        await self.ours.funded(COIN, COIN)
        await self.peer.funded(COIN)
        coins = [*self.ours.wallet.coins(), *self.peer.wallet.coins()]
        self.tx = Transaction(
            2,
            tuple(TxIn(c.outpoint) for c in coins),
            (TxOut(3 * COIN - 10_000, SCRIPT),),
            self.rig.box.height,
        )
        self.told = [PsbtInput(TxOut(c.value, c.script)) for c in coins]

    def text(self) -> str:
        return psbt.build(self.tx, self.told)


async def joint(check: Any) -> None:
    async with rig() as r:
        made = Joint(r)
        await made.make()
        await check(made)


async def test_each_side_signs_its_own_and_the_whole_is_valid() -> None:
    async def check(j: Joint) -> None:
        ours = psbt.read(j.ours.wallet.sign_psbt(j.text(), [0, 1]), j.tx)
        theirs = psbt.read(j.peer.wallet.sign_psbt(j.text(), {2}), j.tx)
        assert [bool(s) for s in ours] == [True, True, False]
        assert [bool(s) for s in theirs] == [False, False, True]
        finals = [ours[0].final, ours[1].final, theirs[2].final]
        assert all(len(f) == 2 and f[0][-1] == 1 for f in finals)
        whole = replace(
            j.tx,
            inputs=tuple(replace(i, witness=w) for i, w in zip(j.tx.inputs, finals, strict=True)),
        )
        assert await j.rig.chain.broadcast(whole.serialize()) == j.tx.txid

    await joint(check)


async def test_the_previous_transaction_may_come_along() -> None:
    async def check(j: Joint) -> None:
        raws = [await j.rig.chain.transaction(i.outpoint.txid) for i in j.tx.inputs]
        j.told = [replace(t, previous=raw) for t, raw in zip(j.told, raws, strict=True)]
        signed = psbt.read(j.ours.wallet.sign_psbt(j.text(), [0, 1]), j.tx)
        assert [bool(s) for s in signed] == [True, True, False]

    await joint(check)


def value(j: Joint) -> set[int]:
    j.told[1] = PsbtInput(TxOut(COIN - 1, j.told[1].spent.script))
    return {0, 1}


def script(j: Joint) -> set[int]:
    j.told[1] = PsbtInput(TxOut(COIN, j.told[0].spent.script))
    return {0, 1}


def peers_claim_on_our_coin(_: Joint) -> set[int]:
    return {0}  # input 1 came from the peer, and is ours


def peers_input(_: Joint) -> set[int]:
    return {0, 1, 2}


def nothing(_: Joint) -> set[int]:
    return set()


def beyond(_: Joint) -> set[int]:
    return {0, 1, 3}


def below(_: Joint) -> set[int]:
    return {0, 1, -1}


def unknown_coin(j: Joint) -> set[int]:
    ghost = TxIn(Outpoint(b"\7" * 32, 0))
    j.tx = replace(j.tx, inputs=(ghost, *j.tx.inputs[1:]))
    return {0, 1}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (value, "input 1 differs from the coin on our chain"),
        (script, "input 1 differs from the coin on our chain"),
        (peers_claim_on_our_coin, "input 1 is a coin of ours that was not ours to give"),
        (peers_input, "input 2 is no coin of ours"),
        (unknown_coin, "input 0 is no coin of ours"),
        (nothing, "does not have the inputs"),
        (beyond, "does not have the inputs"),
        (below, "does not have the inputs"),
    ],
)
async def test_a_wrong_input_is_refused_before_anything_is_signed(spoil: Any, words: str) -> None:
    async def check(j: Joint) -> None:
        only = spoil(j)
        with pytest.raises(InvalidRecord, match=words) as caught:
            j.ours.wallet.sign_psbt(j.text(), only)
        assert caught.value.field == "psbt"

    await joint(check)


def with_field(text: str, field: bytes, data: bytes) -> str:
    """Add a field to the first input's map."""
    import base64

    raw = base64.b64decode(text)
    pair = bytes([len(field)]) + field + bytes([len(data)]) + data
    at = _first_map(raw)
    return base64.b64encode(raw[:at] + pair + raw[at:]).decode()


def _first_map(raw: bytes) -> int:
    """Return where the first input's map begins: after the global map's end."""
    at = 5
    while raw[at]:
        at += 1 + raw[at]
        size, at = raw[at], at + 1
        if size == 0xFD:
            size, at = int.from_bytes(raw[at : at + 2], "little"), at + 2
        at += size
    return at + 1


@pytest.mark.parametrize("sighash", [0x02, 0x03, 0x81, 0x83, 0x00])
async def test_any_sighash_but_all_is_refused(sighash: int) -> None:
    async def check(j: Joint) -> None:
        text = with_field(j.text(), b"\x03", sighash.to_bytes(4, "little"))
        with pytest.raises(InvalidRecord, match="input 0 asks for another sighash"):
            j.ours.wallet.sign_psbt(text, [0, 1])
        fine = with_field(j.text(), b"\x03", b"\1\0\0\0")
        assert j.ours.wallet.sign_psbt(fine, [0, 1])

    await joint(check)


@pytest.mark.parametrize("field", [b"\xfc\x01x\x00", b"\xee"])
async def test_unknown_fields_are_refused(field: bytes) -> None:
    async def check(j: Joint) -> None:
        with pytest.raises(InvalidRecord, match="unknown input field"):
            j.ours.wallet.sign_psbt(with_field(j.text(), field, b"x"), [0, 1])

    await joint(check)


@pytest.mark.parametrize(
    "text", ["", "cHNidP8=", "no base64 at all", "cHNidP8BAA==", "é" * 10, "A" * 7_000_000]
)
async def test_garbage_is_no_psbt(text: str) -> None:
    async with rig() as r:
        purse = Purse(r)
        with pytest.raises(Unreachable):
            purse.wallet.sign_psbt(text, [0])  # nothing is signed before the chain was read
        await purse.wallet.sync()
        with pytest.raises(InvalidRecord, match="psbt"):
            purse.wallet.sign_psbt(text, [0])
        await trio.lowlevel.checkpoint()
