"""Our own sighashes are those of the standards, and the signature check is strict."""

import json
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from embit.script import Script
from embit.transaction import Transaction as EmbitTx
from escrow_tx_kit import h, taproot, wpkh

from escrow.keys import ORDER, check_ecdsa_form, verify_ecdsa, verify_schnorr
from escrow.script import hash160
from escrow.sighash import sighash
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut, parse_transaction

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/sighash.json").read_text())


def load(name: str) -> tuple[dict[str, Any], Transaction, list[TxOut]]:
    vector = VECTORS[name]
    tx = parse_transaction("tx", bytes.fromhex(vector["tx"]))
    return vector, tx, [TxOut(v, bytes.fromhex(s)) for v, s in vector["prevouts"]]


def test_bip143() -> None:
    vector, tx, prevouts = load("bip143")
    digest = sighash(tx, vector["index"], prevouts)
    assert digest.hex() == vector["sighash"]
    public, signature = bytes.fromhex(vector["public"]), bytes.fromhex(vector["signature"])
    assert verify_ecdsa(public, digest, signature, "signature") == signature


def test_bip341_key_path() -> None:
    vector, tx, prevouts = load("bip341")
    digest = sighash(tx, vector["index"], prevouts)
    assert digest.hex() == vector["sighash"]
    key = prevouts[vector["index"]].script[2:]
    verify_schnorr(key, digest, bytes.fromhex(vector["signature"]), "signature")


def test_p2wsh_equals_another_implementation() -> None:
    script = b"\x52" + b"\x21\x02" * 3 + b"\x53\xae"
    import hashlib

    spent = TxOut(5_000_000_000, b"\x00\x20" + hashlib.sha256(script).digest())
    tx = Transaction(2, (TxIn(Outpoint(h("a"), 7)),), (TxOut(1, wpkh("x")),), 499_999_999)
    other = EmbitTx.parse(tx.serialize()).sighash_segwit(0, Script(script), spent.value, 1)
    assert sighash(tx, 0, [spent], script) == other


def test_what_is_not_signed_here_has_no_sighash() -> None:
    tx = Transaction(2, (TxIn(Outpoint(h("a"), 0)),), (TxOut(1, wpkh("x")),), 0)
    for prevouts, script in (
        ([TxOut(1, b"\x00\x20" + bytes(32))], None),
        ([TxOut(1, b"\x00\x20" + bytes(32))], b"\x51"),
        ([TxOut(1, b"\xa9\x14" + bytes(20) + b"\x87")], None),
        ([TxOut(1, b"\x76\xa9\x14" + bytes(20) + b"\x88\xac")], None),
        ([], None),
        ([TxOut(1, taproot("a"))] * 2, None),
    ):
        with pytest.raises(InvalidRecord):
            sighash(tx, 0, prevouts, script)
    with pytest.raises(InvalidRecord):
        sighash(tx, 1, [TxOut(1, wpkh("a"))])
    with pytest.raises(InvalidRecord):
        sighash(tx, -1, [TxOut(1, wpkh("a"))])


@pytest.mark.parametrize("field", ["value", "script", "sequence", "vout", "locktime", "version"])
def test_every_part_of_the_transaction_is_committed(field: str) -> None:
    def make(changed: str) -> bytes:
        def is_(name: str) -> int:
            return int(changed == name)

        ins = (
            TxIn(Outpoint(h("a"), is_("vout")), 0xFFFFFFFD - is_("sequence")),
            TxIn(Outpoint(h("b"), 0), 0xFFFFFFFD),
        )
        outs = (TxOut(1000 + is_("value"), wpkh("y" if is_("script") else "x")),)
        tx = Transaction(2 - is_("version"), ins, outs, is_("locktime"))
        scripts = (wpkh("own"), taproot("own"))
        spent = [[TxOut(2000, script), TxOut(3000, wpkh("peer"))] for script in scripts]
        return b"".join(sighash(tx, 0, prevouts) for prevouts in spent)

    before, after = make(""), make(field)
    assert before[:32] != after[:32]
    assert before[32:] != after[32:]


def test_strict_der() -> None:
    key, digest = PrivateKey(h("key")), h("digest")
    good = key.sign(digest, hasher=None) + b"\x01"
    public = key.public_key.format()
    assert verify_ecdsa(public, digest, good, "sig") == good
    for at in range(len(good)):
        broken = bytearray(good)
        broken[at] ^= 0x01
        with pytest.raises(InvalidRecord, match="sig"):
            verify_ecdsa(public, digest, bytes(broken), "sig")
    for cut in range(len(good)):
        with pytest.raises(InvalidRecord, match="sig"):
            check_ecdsa_form("sig", good[:cut])
    with pytest.raises(InvalidRecord):
        verify_ecdsa(b"\x02" + b"\xff" * 32, digest, good, "sig")
    with pytest.raises(InvalidRecord):
        verify_ecdsa(key.public_key.format(compressed=False), digest, good, "sig")


def der(r: bytes, s: bytes) -> bytes:
    body = b"\x02" + bytes([len(r)]) + r + b"\x02" + bytes([len(s)]) + s
    return b"\x30" + bytes([len(body)]) + body + b"\x01"


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (b"\x01", (ORDER // 2 + 1).to_bytes(32, "big")),
        (b"\x80", b"\x01"),
        (b"\x01", b"\xff"),
        (b"\x00\x01", b"\x01"),
        (b"\x01", b"\x00\x01"),
        (b"\x00", b"\x01"),
        (b"\x01", b"\x00"),
        (b"", b"\x01"),
        (b"\x01\x01", b""),
        (b"\x00" + ORDER.to_bytes(32, "big"), b"\x01"),
    ],
)
def test_der_by_its_form_alone(r: bytes, s: bytes) -> None:
    check_ecdsa_form("sig", der(b"\x01", (ORDER // 2).to_bytes(32, "big")))
    with pytest.raises(InvalidRecord, match="sig"):
        check_ecdsa_form("sig", der(r, s))


def test_hash160() -> None:
    assert hash160(b"").hex() == "b472a266d0bd89c13706a4132ccfb16f7c3b9fcb"
    assert hash160(b"abc").hex() == "bb1be98c142444d7a56aa3981c3942a978e4dc33"
