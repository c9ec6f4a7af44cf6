"""What another wallet is given: a descriptor it can check, payouts it can sign, keys it can find."""

import json
from typing import Any

import bdkpython as bdk
import pytest
from embit import bip32, bip39
from embit.psbt import PSBT
from escrow_tx_kit import BRANCHES, KEYS, NETWORKS, ROLES, WORDS, contract, h, trade_key

from escrow.backend_consensus import verify_transaction
from escrow.backend_signatures import complete, first_sign
from escrow.contract import KIND_2OF3, KIND_BACKUP, KINDS_ALLOWED, Contract
from escrow.export import Choice, branches, export, with_checksum
from escrow.payout import Branch, Split, build_payout, payout_rates, refund, release, verdict_split
from escrow.script import descriptor, escrow_script, witness_script
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import (
    Outpoint,
    Transaction,
    TxIn,
    TxOut,
    display,
    parse_transaction,
)


def funded(made: Contract) -> tuple[Outpoint, bytes]:
    """A transaction that pays the escrow as its second output."""
    outputs = (TxOut(1_000, b"\x00\x14" + bytes(20)), TxOut(made.escrow_sat, escrow_script(made)))
    tx = Transaction(2, (TxIn(Outpoint(h("coin"), 0), witness=(b"w",)),), outputs, 250)
    return Outpoint(tx.txid, 1), tx.serialize()


@pytest.mark.parametrize("kind", KINDS_ALLOWED)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_checksum_is_the_one_of_another_library(kind: str, name: str) -> None:
    network = NETWORKS[name]
    made = contract(escrow_kind=kind, network=network)
    test = bdk.NetworkKind.MAIN if name == "main" else bdk.NetworkKind.TEST
    assert with_checksum(descriptor(made)) == str(bdk.Descriptor(descriptor(made), test))


@pytest.mark.parametrize(
    "text", ["raw(deadbeef)#89f8spxm", "wpkh(a)#u68n6k0v", "pk(a" + "b" * 64 + ")#mmmezp95"]
)
def test_checksums_of_any_length(text: str) -> None:
    """BIP 380's own vector, and strings of each length modulo 3."""
    from embit.descriptor.checksum import add_checksum

    bare = text.split("#", maxsplit=1)[0]
    assert with_checksum(bare) == add_checksum(bare)
    if bare == "raw(deadbeef)":
        assert with_checksum(bare) == text


@pytest.mark.parametrize("kind", KINDS_ALLOWED)
def test_every_usual_payout_on_every_branch(kind: str) -> None:
    made = contract(escrow_kind=kind)
    at, raw = funded(made)
    found = json.loads(json.dumps(export(made, at, raw, messages=[b"one", b"two"])))
    assert found["messages"] == [b"one".hex(), b"two".hex()]
    assert Contract.from_wire(bytes.fromhex(found["contract"]), made.network) == made
    assert found["outpoint"] == f"{display(at.txid)}:1"
    assert "descriptor_with_secrets" not in found
    names = [(p["name"], p["branch"], p["rate"]) for p in found["payouts"]]
    assert names == [
        (name, branch.name.lower(), rate)
        for branch in branches(made)
        for name in ("release", "refund")
        for rate in payout_rates(made)
    ]
    for payout in found["payouts"]:
        branch = Branch[payout["branch"].upper()]
        split = release(made) if payout["name"] == "release" else refund(made)
        expect = build_payout(made, at, split, payout["rate"], branch)
        psbt = PSBT.from_string(payout["psbt"])
        assert psbt.tx.serialize() == expect.tx.serialize()
        assert payout["sequence"] == psbt.tx.vin[0].sequence == (made.n if branch else 2**32 - 3)
        (one,) = psbt.inputs
        assert one.witness_utxo.value == made.escrow_sat
        assert one.witness_script.data == witness_script(made)
        assert one.non_witness_utxo.txid() == at.txid[::-1]
        assert len(one.partial_sigs) == 0
        paid = payout["buyer_sat"] + payout["seller_sat"] + payout["arbiter_sat"]
        assert paid + payout["fee_sat"] == made.escrow_sat


@pytest.mark.parametrize(("kind", "branch"), BRANCHES)
def test_a_signature_at_hand_travels_along(kind: str, branch: Branch) -> None:
    made = contract(escrow_kind=kind)
    at, raw = funded(made)
    split = verdict_split(made, 5_000, branch)
    buyer, _, arbiter = (KEYS[role] for role in ROLES[branch])
    pair = first_sign(made, at, split, arbiter, branch)
    own = first_sign(made, at, split, buyer, branch)
    both = {arbiter.public: pair, buyer.public: own}
    ruled = Choice(name="verdict", split=split, branch=branch, signatures=both)
    found = [p for p in export(made, at, raw, [ruled])["payouts"] if p["name"] == "verdict"]
    finals = complete(made, at, split, buyer, arbiter.public, pair, branch)
    for payout, final in zip(found, finals, strict=True):
        assert payout["signed_by"] == sorted(public.hex() for public in both)
        result = bdk.Psbt(payout["psbt"]).finalize()
        assert result.could_finalize
        done = bytes(result.psbt.extract_tx_unchecked_fee_rate().serialize())
        assert done == final.serialize()
        spent = TxOut(made.escrow_sat, escrow_script(made))
        verify_transaction(parse_transaction("payout", done), [spent])


def test_a_choice_takes_the_place_of_its_name() -> None:
    made = contract()
    at, raw = funded(made)
    pair = first_sign(made, at, release(made), KEYS["S"])
    choice = Choice(name="release", split=release(made), signatures={KEYS["S"].public: pair})
    found = export(made, at, raw, [choice])["payouts"]
    assert [p["signed_by"] for p in found] == [[KEYS["S"].public.hex()]] * 2 + [[], []]


def test_equal_rates_make_one_payout() -> None:
    made = contract(rate=156)
    assert len(export(made, *funded(made))["payouts"]) == 2


def test_what_is_not_exported() -> None:
    made = contract(escrow_kind=KIND_BACKUP)
    at, raw = funded(made)
    pair = first_sign(made, at, release(made), KEYS["S"])
    cases: tuple[tuple[str, Any, bytes, Any], ...] = (
        ("funding", Outpoint(at.txid, 0), raw, ()),
        ("funding", Outpoint(at.txid, 2), raw, ()),
        ("funding", Outpoint(h("other"), 1), raw, ()),
        ("funding", at, raw[:-1], ()),
        ("split", at, raw, Split(1, 1, 0)),
        ("signatures", at, raw, pair[::-1]),
        ("signatures", at, raw, (pair[0], pair[0])),
    )
    for field, point, funding, odd in cases:
        choices = []
        if odd:
            split = odd if isinstance(odd, Split) else release(made)
            signatures = {} if isinstance(odd, Split) else {KEYS["S"].public: odd}
            choices = [Choice(name="mine", split=split, signatures=signatures)]
        with pytest.raises(InvalidRecord, match=field):
            export(made, point, funding, choices)
            pytest.fail(field)
    late = Choice(name="late", split=release(made), branch=Branch.BACKUP)
    plain = contract()
    with pytest.raises(InvalidRecord, match="branch"):
        export(plain, *funded(plain), [late])


@pytest.mark.parametrize("name", ["main", "regtest"])
def test_the_paths_lead_to_the_keys(name: str) -> None:
    network = NETWORKS[name]
    roles = {"buyer": "B", "seller": "S", "arbiter": "A", "runner_up": "A2"}
    keys = {f"key_{r.lower()}": trade_key(r, network=network).public for r in KEYS}
    made = contract(escrow_kind=KIND_BACKUP, network=network, **keys)
    listed = export(made, *funded(made))["keys"]
    assert [k["public_key"] for k in listed] == [
        getattr(made, n).hex() for n in ("key_b", "key_s", "key_a", "key_b2", "key_s2", "key_a2")
    ]
    for key in listed:
        root = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(WORDS[roles[key["role"]]]))
        assert root.derive(key["path"]).key.get_public_key().sec().hex() == key["public_key"]


def test_secrets_go_into_a_descriptor_of_their_own() -> None:
    made = contract(escrow_kind=KIND_BACKUP)
    own = {KEYS[role].public: KEYS[role].wif() for role in ("B", "B2")}
    found = export(made, *funded(made), secrets=own)
    text = found.pop("descriptor_with_secrets")
    wallet = bdk.Wallet.create_single(
        bdk.Descriptor(text, bdk.NetworkKind.TEST),
        bdk.Network.REGTEST,
        bdk.Persister.new_in_memory(),
    )
    address = wallet.peek_address(bdk.KeychainKind.EXTERNAL, 0).address
    assert str(address) == found["address"]
    shown = json.dumps(found)
    for wif in own.values():
        assert wif in text
        assert wif not in shown
    assert found["escrow_kind"] != KIND_2OF3
