"""Bonds: script, proof, each rule of a draw on both sides of its bound, the record that shows one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bond_kit import HEIGHT, LOCKED, SAT, bond, bond_key, bonded, eyes_of
from trade_facts import (
    ANCHOR,
    FRESH,
    NET,
    FakeEyes,
    block_hash,
    h,
    identity,
    record,
    schnorr,
    secret,
)

from escrow.anchor import Anchor, Candidate, newest
from escrow.arbiters import MAX_BYTES, ArbiterRecord
from escrow.bond import (
    FIRST_TIME,
    LAST_TIME,
    MAX_BRANCH,
    MAX_TRANSACTION,
    YEAR_S,
    Bond,
    bond_output,
    bond_script,
    weight_at,
)
from escrow.draw import pick
from escrow.script import p2wpkh
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import NETWORKS
from p2pnode.base.transaction import (
    Outpoint,
    Transaction,
    TxIn,
    TxOut,
    merkle_branch,
    merkle_root,
    parse_transaction,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "draw.json"
MAIN = NETWORKS["main"]
TRADERS = frozenset((identity("maker").node_id, identity("taker").node_id))
FAR = 10_000  # an anchor on a chain that is long enough for main's rules
MTP = 1_800_000_000
YEARS_90 = MTP + 90 * 86_400


class Far:
    """A long chain on which one bond is; its blocks' clock stands at MTP."""

    def __init__(self, *bonds: Bond) -> None:
        self.roots = {b.height: b.root for b in bonds}

    def block_hash(self, height: int) -> bytes:
        return h(f"block {height}")

    def merkle_root(self, height: int) -> bytes | None:
        return self.roots.get(height)

    def mtp(self, height: int) -> int:
        return MTP


def fault(made: Bond, *, network: Any = MAIN, amount: int = 0, eyes: Any = None) -> str:
    """What keeps a bond out at FAR, or nothing."""
    shown = replace(record(0), bond=made, at_height=FAR - 6, at_hash=h(f"block {FAR - 6}"))
    anchor = Anchor(network, FAR, amount, TRADERS, eyes or Far(made))
    try:
        assert anchor.weigh(shown) == made.weight(MTP)
    except InvalidRecord as error:
        return str(error)
    return ""


def main_bond(**change: Any) -> Bond:
    values = {"sat": 4_055_556, "lock_time": YEARS_90, "height": FAR - 2016}
    return bond(0, **(values | change))


# ------------------------------------------------------------------ script and weight


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["bonds"])
def test_script_output_and_weight_are_the_second_implementations(case: dict[str, Any]) -> None:
    key = bytes.fromhex(case["key"])
    assert bond_script(case["lock_time"], key).hex() == case["script"]
    assert bond_output(case["lock_time"], key).hex() == case["output"]
    assert weight_at(case["sat"], case["lock_time"], case["mtp"]) == case["weight"]


@pytest.mark.parametrize("lock_time", [FIRST_TIME - 1, LAST_TIME + 1, 0, -1, 800_000])
def test_a_lock_by_height_or_beyond_the_field_is_no_bond(lock_time: int) -> None:
    with pytest.raises(InvalidRecord, match="lock_time: is not an integer in"):
        bond_script(lock_time, bond_key("x"))


def test_a_year_counts_and_no_more_and_what_is_past_weighs_nothing() -> None:
    assert weight_at(10**8, MTP + YEAR_S, MTP) == 10**8
    assert weight_at(10**8, MTP + YEAR_S - 1, MTP) == 10**8 - 4  # rounded down
    assert weight_at(10**8, MTP + 50 * YEAR_S, MTP) == 10**8
    assert weight_at(10**8, MTP, MTP) == weight_at(10**8, MTP - 1, MTP) == 0


# ------------------------------------------------------------------ who counts, on main's numbers


def test_the_least_bond_of_main_counts() -> None:
    assert main_bond().weight(MTP) == 1_000_000
    assert fault(main_bond()) == ""


@pytest.mark.parametrize(
    ("change", "amount", "why"),
    [
        ({"height": FAR - 2015}, 0, "bond.height: is not 2016 blocks below the anchor"),
        ({"lock_time": YEARS_90 - 1}, 0, "bond.lock_time: is not 7776000 s after the anchor's"),
        ({"sat": 4_055_555}, 0, "bond.lock_time: gives weight 999999, not 1000000"),
        ({}, 4_055_557, "bond.transaction: locks less than the 4055557 sat traded"),
    ],
    ids=["young", "short", "light", "below the amount"],
)
def test_a_bond_one_step_beyond_a_bound_does_not_count(
    change: dict[str, int], amount: int, why: str
) -> None:
    assert fault(main_bond(**change), amount=amount).startswith(why)


def test_a_bond_worth_the_amount_exactly_counts() -> None:
    assert fault(main_bond(), amount=4_055_556) == ""


def test_main_and_sandbox_differ_in_numbers_alone() -> None:
    young = main_bond(height=FAR - 2, lock_time=MTP + 3600)
    assert fault(young, network=NET) == ""
    assert fault(main_bond(height=FAR - 1), network=NET).startswith("bond.height")
    assert fault(main_bond(lock_time=MTP + 3599), network=NET).startswith("bond.lock_time")
    tiny = main_bond(sat=8759, lock_time=MTP + 3600)  # 8760 hours are a year
    assert fault(tiny, network=NET) == "bond.lock_time: gives weight 0, not 1"
    assert fault(main_bond(sat=8760, lock_time=MTP + 3600), network=NET) == ""


# ------------------------------------------------------------------ the proof


def test_a_bond_in_no_block_of_ours_does_not_count() -> None:
    made = main_bond()
    for eyes in (Far(), Far(main_bond(sat=10**8)), Far(replace(made, height=made.height - 1))):
        assert fault(made, eyes=eyes) == "bond.branch: does not lead to our header's merkle root"


def test_a_branch_of_a_real_block_is_proven_at_each_place() -> None:
    made = main_bond()
    for count in (1, 2, 3, 7, 8):
        for position in range(count):
            txids = [h(f"tx {n}") for n in range(count)]
            txids[position] = made.outpoint[:32]
            branch = merkle_branch(txids, position)
            shown = replace(made, position=position, branch=branch)
            assert shown.root == merkle_root(txids)
            assert fault(shown) == ""
            if branch and branch[0] != txids[position]:  # else it is paired with itself
                moved = replace(shown, position=position ^ 1)
                assert fault(moved, eyes=Far(shown)).startswith("bond.branch")


def refused(**change: Any) -> str:
    with pytest.raises(InvalidRecord) as caught:
        replace(bond(0), **change)
    return str(caught.value)


def test_what_is_wrong_by_itself_is_refused_and_named() -> None:
    good = bond(0)
    tx = parse_transaction("tx", good.transaction)
    other = replace(tx, locktime=91).serialize()
    signed = replace(tx, inputs=(replace(tx.inputs[0], witness=(b"x",)),)).serialize()
    outpoint = Outpoint.from_wire("o", good.outpoint)
    assert refused(transaction=other) == "bond.transaction: is not the transaction of the outpoint"
    assert refused(transaction=signed) == "bond.transaction: is not stripped of its witnesses"
    assert refused(transaction=b"").startswith("bond.transaction")
    assert refused(transaction=good.transaction + b"\0").startswith("bond.transaction")
    missing = replace(outpoint, vout=2).wire()
    assert refused(outpoint=missing) == "bond.outpoint: names an output that does not exist"
    change = replace(outpoint, vout=1).wire()
    for other_bond in ({"outpoint": change}, {"lock_time": LOCKED + 1}, {"key": bond_key("thief")}):
        assert refused(**other_bond).startswith("bond.outpoint: does not pay to this key")
    assert refused(key=b"\x02" + bytes(32)).startswith("bond.key")
    assert refused(height=0).startswith("bond.height")
    assert refused(height=500_000_000).startswith("bond.height")
    assert refused(position=2).startswith("bond.position")
    assert refused(position=-1).startswith("bond.position")
    assert refused(branch=(bytes(31),)).startswith("bond.branch")
    assert refused(branch=(bytes(32),) * (MAX_BRANCH + 1), position=0).startswith("bond.branch")
    assert refused(lock_time=FIRST_TIME - 1).startswith("bond.lock_time")


@pytest.mark.parametrize("sat", [0, -1, 21 * 10**14 + 1])
def test_an_output_that_is_no_money_is_no_bond(sat: int) -> None:
    with pytest.raises(InvalidRecord, match=r"bond.transaction: pays it not 1 to"):
        bond(0, sat=sat)


def test_a_transaction_of_500_bytes_is_taken_and_one_more_is_not() -> None:
    made = bond(0)
    tx = parse_transaction("tx", made.transaction)
    room = MAX_TRANSACTION - len(made.transaction)
    padded = replace(tx, outputs=(*tx.outputs, TxOut(1, bytes(room - 11))))
    assert len(padded.serialize()) == MAX_TRANSACTION
    point = Outpoint(padded.txid, 0).wire()
    assert replace(made, transaction=padded.serialize(), outpoint=point).value == SAT
    longer = replace(tx, outputs=(*tx.outputs, TxOut(1, bytes(room - 10))))
    point = Outpoint(longer.txid, 0).wire()
    assert refused(transaction=longer.serialize(), outpoint=point).startswith("bond.transaction")


def test_two_hashes_of_the_tree_pass_for_no_bond() -> None:
    """CVE-2017-12842: no transaction of 64 bytes has a P2WSH output."""
    made = bond(0)
    least = Transaction(2, (TxIn(Outpoint(bytes(32), 0)),), (TxOut(1, bytes(34)),), 0)
    assert len(least.serialize()) > 64
    assert refused(transaction=h("left") + h("right")).startswith("bond.transaction")
    assert len(made.transaction) > 64


def test_a_transaction_of_64_bytes_carries_no_bond_below_it() -> None:
    """The other way round: the bond's txid as the first half of a real transaction."""
    made = bond(0)
    tx = parse_transaction("tx", made.transaction)
    for n in range(1 << 12):  # its fifth byte must be the number of inputs: one
        tx = replace(tx, locktime=n)
        if tx.txid[4] == 1:
            break
    short = Transaction(1, (TxIn(Outpoint(bytes(32), 0)),), (TxOut(0, bytes(4)),), 0).serialize()
    assert len(short) == 64
    beside = short[32:]
    assert len(parse_transaction("pair", tx.txid + beside).outputs) == 1
    point = Outpoint(tx.txid, 0).wire()
    told = refused(transaction=tx.serialize(), outpoint=point, branch=(beside,), position=0)
    assert told == "bond.branch: passes off a transaction as two hashes"


# ------------------------------------------------------------------ the record


def changed(made: ArbiterRecord, place: int, value: Any, *, outer: bool = False) -> bytes:
    """A record's bytes with one item exchanged, unsigned anew."""
    fields, *signatures = wire.unpack("r", made.wire(), limit=MAX_BYTES)
    items = [list(fields), *signatures]
    if outer:
        items[place] = value
    else:
        items[0][place] = value
    return wire.pack(items)


def test_a_bonded_record_reads_back_and_its_outpoint_is_the_bond() -> None:
    made = bonded(1)
    again = ArbiterRecord.from_wire(made.wire(), NET)
    assert again == made
    assert again.outpoint == bond(1).outpoint
    assert (again.version, record(0).version) == (1, 0)
    assert again.id == made.id == replace(made, bond_sig=bytes(64)).id


@pytest.mark.parametrize("network", ["main", "testnet4", "signet"])
def test_public_networks_take_bonded_records_alone(network: str) -> None:
    net = NETWORKS[network]
    made = bonded(0, network=net)
    assert ArbiterRecord.from_wire(made.wire(), net).bond == bond(0)
    with pytest.raises(InvalidRecord, match=rf"version: is 0, and {network} asks for a bond"):
        replace(made, bond=None)


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (0, 2, "version"),
        (0, -1, "version"),
        (0, 0, "bond_sig"),
        (2, bytes(36), "bond.transaction"),
        (3, b"", "bond.transaction"),
        (4, 0, "bond.height"),
        (5, 2, "bond.position"),
        (6, (), "bond.position"),
        (6, b"", "bond.branch"),
        (7, bond_key("thief"), "bond.outpoint"),
        (8, LOCKED + 1, "bond.outpoint"),
        (8, "soon", "bond.lock_time"),
        (14, FRESH - 1, "node_sig"),
    ],
)
def test_each_field_of_the_bond_is_held(place: int, value: Any, field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        ArbiterRecord.from_wire(changed(bonded(1), place, value), NET)
    assert caught.value.field == field


def test_the_bond_must_have_signed() -> None:
    """A record that shows another's bond is no record."""
    with pytest.raises(InvalidRecord) as caught:
        ArbiterRecord.from_wire(bonded(0, signer="thief").wire(), NET)
    assert caught.value.field == "bond_sig"
    for bad in (b"", bytes(63), bytes(64)):
        with pytest.raises(InvalidRecord) as caught:
            ArbiterRecord.from_wire(changed(bonded(0), 3, bad, outer=True), NET)
        assert caught.value.field == "bond_sig"


def test_a_bondless_record_carries_no_bonds_signature() -> None:
    assert ArbiterRecord.from_wire(record(0).wire(), NET) == record(0)
    with pytest.raises(InvalidRecord) as caught:
        ArbiterRecord.from_wire(changed(record(0), 3, bytes(64), outer=True), NET)
    assert caught.value.field == "bond_sig"
    for place, value in ((3, b"x"), (4, 1), (5, 1), (6, (bytes(32),)), (7, b"x"), (8, 1)):
        with pytest.raises(InvalidRecord) as caught:
            ArbiterRecord.from_wire(changed(record(0), place, value), NET)
        assert caught.value.field == "outpoint"


def test_a_record_of_1400_bytes_is_read_and_one_more_is_not() -> None:
    """A block of 8,192 transactions and a transaction of 9 inputs fit; of 65,536, one of 8."""
    for inputs, depth, fits in ((9, 13, True), (8, 16, True), (9, 15, False), (9, 16, False)):
        made = bond(0, inputs=inputs)
        deep = replace(made, branch=tuple(h(f"beside {n}") for n in range(depth)), position=0)
        raw = bonded(0, made=deep).wire()
        assert (len(raw) <= MAX_BYTES) == fits, (inputs, depth, len(raw))
        if fits:
            assert ArbiterRecord.from_wire(raw, NET).bond == deep
        else:
            with pytest.raises(InvalidRecord, match="is not binary of 1 to 1400 bytes"):
                ArbiterRecord.from_wire(raw, NET)


# ------------------------------------------------------------------ in a set


def test_one_bond_shown_by_two_nodes_at_one_height_is_out_and_the_newer_stands() -> None:
    """Its owner alone can sign two: he puts out nobody but himself."""
    one, two = bonded(0), bonded(0, node="arbiter 5")
    assert one.outpoint == two.outpoint
    assert newest([one, two]) == {}
    later = bonded(0, FRESH + 1, node="arbiter 5")
    assert newest([one, two, later]) == {one.outpoint: later}


@pytest.mark.parametrize("shared", ["node", "key"])
def test_the_winner_takes_his_other_bonds_with_him(shared: str) -> None:
    if shared == "node":
        twice = [bonded(0), bonded(1, node="arbiter 0")]
    else:
        twice = [bonded(0, key="same"), bonded(1, key="same")]
    assert twice[0].outpoint != twice[1].outpoint
    other = bonded(2)
    pool = [Candidate(r, 1) for r in sorted([*twice, other], key=lambda r: r.outpoint)]
    firsts = set()
    for n in range(64):
        arbiter, runner_up = pick(NET, h(f"seed {n}"), pool)
        firsts.add(arbiter.outpoint)
        assert (arbiter is other) != (runner_up is other)
    assert len(firsts) == 3


def test_bonds_and_none_mix_where_both_are_admitted() -> None:
    bonds = [bonded(n) for n in range(2)]
    free = [record(n) for n in range(2, 4)]
    anchor = Anchor(NET, ANCHOR, 2_000_000, TRADERS, eyes_of(*bonds))
    found = {c.record.outpoint: c.weight for c in anchor.candidates([*bonds, *free])}
    assert [found[r.outpoint] for r in free] == [1, 1]
    assert all(found[r.outpoint] == SAT for r in bonds)  # locked for over a year


def test_the_proof_is_read_from_the_chain_of_the_reader_each_time() -> None:
    """A reorg that takes the bond away takes it out of the set."""
    made = bonded(0)
    eyes = FakeEyes({HEIGHT: bond(0).root})
    anchor = Anchor(NET, ANCHOR, 0, TRADERS, eyes)
    assert anchor.counts(made)
    eyes.roots[HEIGHT] = h("another block")
    assert not anchor.counts(made)
    assert block_hash(made.at_height) == made.at_hash


def test_a_signature_by_the_bond_key_is_over_the_record_and_no_other() -> None:
    made, other = bonded(0), bonded(0, FRESH - 1)
    moved = replace(made, bond_sig=other.bond_sig)
    with pytest.raises(InvalidRecord, match="bond_sig"):
        ArbiterRecord.from_wire(moved.wire(), NET)
    assert schnorr(secret("bond of arbiter 0"), made.id) == made.bond_sig
    assert p2wpkh(bond_key("x"))[:2] == b"\0\x14"
