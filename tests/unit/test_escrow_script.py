"""The escrow output is the BIP 67 2-of-3, and every library derives the same address."""

import json
from itertools import permutations
from pathlib import Path

import bdkpython as bdk
import pytest
from embit.descriptor import Descriptor
from embit.networks import NETWORKS as EMBIT
from escrow_tx_kit import KEYS, contract, h, trade_key

from escrow.script import (
    descriptor,
    escrow_address,
    escrow_script,
    p2wpkh,
    witness_script,
    witness_stack,
)
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import NETWORKS

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/sighash.json").read_text())


@pytest.mark.parametrize("n", range(len(VECTORS["bip67"])))
def test_bip67(n: int) -> None:
    vector = VECTORS["bip67"][n]
    for b, s, a in permutations(bytes.fromhex(k) for k in vector["keys"]):
        made = contract(key_b=b, key_s=s, key_a=a)
        assert witness_script(made).hex() == vector["script"]


@pytest.mark.parametrize("name", NETWORKS)
def test_other_libraries_derive_the_same_address(name: str) -> None:
    network = NETWORKS[name]
    keys = {f"key_{r.lower()}": trade_key(r, network=network).public for r in "BSA"}
    made = contract(network=network, **keys)
    text = descriptor(made)
    embit = {"main": "main", "testnet4": "test", "signet": "signet"}.get(name, "regtest")
    assert Descriptor.from_string(text).address(EMBIT[embit]) == escrow_address(made)
    kind = bdk.NetworkKind.MAIN if name == "main" else bdk.NetworkKind.TEST
    assert str(bdk.Descriptor(text, kind)).startswith(text)
    assert Descriptor.from_string(text).script_pubkey().data == escrow_script(made)


def test_the_known_p2wpkh() -> None:
    key = bytes.fromhex("025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357")
    assert p2wpkh(key).hex() == "00141d0f172a0ecb48aee1be1f2687d2963ae33f71a1"


@pytest.mark.parametrize("name", ["key_b", "key_s", "key_a"])
def test_a_key_off_the_curve_is_refused_and_named(name: str) -> None:
    off_curve = b"\x02" + bytes(31) + b"\x05"
    with pytest.raises(InvalidRecord) as caught:
        witness_script(contract(**{name: off_curve}))
    assert caught.value.field == name


def test_a_key_twice_never_becomes_a_script() -> None:
    one = KEYS["B"].public
    for copy in (one, bytes([one[0] ^ 1]) + one[1:]):
        with pytest.raises(InvalidRecord, match="distinct"):
            contract(key_s=copy)


def test_a_witness_needs_two_keys_of_the_contract() -> None:
    made = contract()
    b, s, a = (KEYS[r].public for r in "BSA")
    assert witness_stack(made, {b: b"1", s: b"2"})[0] == b""
    for signatures in ({b: b"1"}, {b: b"1", s: b"2", a: b"3"}, {b: b"1", h("x"): b"2"}, {}):
        with pytest.raises(InvalidRecord, match="two"):
            witness_stack(made, signatures)
