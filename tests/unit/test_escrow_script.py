"""The escrow output is the BIP 67 2-of-3, and every library derives the same address."""

import json
from itertools import combinations, permutations
from pathlib import Path

import bdkpython as bdk
import pytest
from embit.descriptor import Descriptor
from embit.networks import NETWORKS as EMBIT
from escrow_tx_kit import KEYS, ROLES, contract, h, trade_key

from escrow.contract import BACKUP_KEYS, KIND_BACKUP, KINDS_ALLOWED, MAIN_KEYS
from escrow.script import (
    Branch,
    arbiter_terms,
    descriptor,
    escrow_address,
    escrow_keys,
    escrow_script,
    input_weight,
    p2wpkh,
    sequence,
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
@pytest.mark.parametrize("kind", KINDS_ALLOWED)
@pytest.mark.parametrize("days", [1, 60])
def test_other_libraries_derive_the_same_address(name: str, kind: str, days: int) -> None:
    network = NETWORKS[name]
    roles = [role for branch in ROLES.values() for role in branch][: 6 if "backup" in kind else 3]
    keys = {f"key_{r.lower()}": trade_key(r, network=network).public for r in roles}
    made = contract(network=network, escrow_kind=kind, period_s=days * 86_400, **keys)
    text = descriptor(made)
    embit = {"main": "main", "testnet4": "test", "signet": "signet"}.get(name, "regtest")
    assert Descriptor.from_string(text).address(EMBIT[embit]) == escrow_address(made)
    bdk_kind = bdk.NetworkKind.MAIN if name == "main" else bdk.NetworkKind.TEST
    assert str(bdk.Descriptor(text, bdk_kind)).startswith(text)
    assert Descriptor.from_string(text).script_pubkey().data == escrow_script(made)


def test_the_backup_script_is_the_miniscript_spelled_out() -> None:
    made = contract(escrow_kind=KIND_BACKUP)
    assert made.n == 144 * 31 == 0x1170
    now, after = (
        "52" + "".join("21" + key.hex() for key in escrow_keys(made, branch)) + "53"
        for branch in Branch
    )
    assert witness_script(made).hex() == f"{now}ae7364{after}af027011b268"
    assert sorted(escrow_keys(made, Branch.BACKUP)) == list(escrow_keys(made, Branch.BACKUP))


def test_the_known_p2wpkh() -> None:
    key = bytes.fromhex("025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357")
    assert p2wpkh(key).hex() == "00141d0f172a0ecb48aee1be1f2687d2963ae33f71a1"


@pytest.mark.parametrize("name", MAIN_KEYS + BACKUP_KEYS)
def test_a_key_off_the_curve_is_refused_and_named(name: str) -> None:
    off_curve = b"\x02" + bytes(31) + b"\x05"
    with pytest.raises(InvalidRecord) as caught:
        witness_script(contract(escrow_kind=KIND_BACKUP, **{name: off_curve}))
    assert caught.value.field == name


@pytest.mark.parametrize(("one", "other"), list(combinations(MAIN_KEYS + BACKUP_KEYS, 2)))
def test_a_key_twice_never_becomes_a_script(one: str, other: str) -> None:
    key = getattr(contract(escrow_kind=KIND_BACKUP), one)
    for copy in (key, bytes([key[0] ^ 1]) + key[1:]):
        with pytest.raises(InvalidRecord, match="distinct") as caught:
            contract(escrow_kind=KIND_BACKUP, **{other: copy})
        assert caught.value.field == other


def test_a_witness_needs_two_keys_of_the_branch() -> None:
    made = contract(escrow_kind=KIND_BACKUP)
    for branch, length in ((Branch.MAIN, 4), (Branch.BACKUP, 7)):
        b, s, a = (KEYS[r].public for r in ROLES[branch])
        stack = witness_stack(made, {b: b"1", s: b"2"}, branch)
        assert (len(stack), stack[0], stack[-1]) == (length, b"", witness_script(made))
        assert sorted(stack[1:3]) == [b"1", b"2"]
        assert set(stack[3:-1]) <= {b""}
        foreign = KEYS[ROLES[Branch(1 - branch)][0]].public
        for signatures in (
            {b: b"1"},
            {b: b"1", s: b"2", a: b"3"},
            {b: b"1", h("x"): b"2"},
            {b: b"1", foreign: b"2"},
            {},
        ):
            with pytest.raises(InvalidRecord, match="two"):
                witness_stack(made, signatures, branch)


def test_the_plain_kind_has_one_branch() -> None:
    for ask in (escrow_keys, input_weight, sequence, arbiter_terms):
        ask(contract(), Branch.MAIN)
        with pytest.raises(InvalidRecord, match="branch"):
            ask(contract(), Branch.BACKUP)
