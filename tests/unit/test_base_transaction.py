"""Bitcoin's bytes: the genesis block, BIP 143's examples, an independent parser."""

import pytest
from embit.transaction import Transaction as Embit
from hypothesis import given
from hypothesis import strategies as st

from p2pnode.base import transaction as t
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import NETWORKS
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut

COINBASE = bytes.fromhex(
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d"
    "0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66"
    "207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe55"
    "48271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba"
    "0b8d578a4c702b6bf11d5fac00000000"
)
COINBASE_TXID = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e"
    "67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
# BIP 143, "Native P2WPKH": signed
BIP143 = bytes.fromhex(
    "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830"
    "450221008b9d1dc26ba6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f928"
    "1a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e81"
    "5b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f6"
    "6f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988"
    "ac000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c"
    "4518331561406f90300e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7aca"
    "fcdb3566bb0ad253f62fc70f07aeee635711000000"
)


def test_the_genesis_block():
    block = GENESIS + b"\1" + COINBASE
    head, (tx,) = t.parse_block(block)
    header = t.Header(head)
    assert t.display(header.hash) == NETWORKS["main"].genesis
    assert t.display(tx.txid) == COINBASE_TXID
    assert header.merkle_root == tx.txid == tx.wtxid
    assert header.has_work
    assert not t.Header(head[:-1] + b"\0").has_work
    assert (tx.vsize, tx.weight) == (204, 816)


def test_a_witness_transaction_as_another_parser_sees_it():
    tx = t.parse_transaction("tx", BIP143)
    other = Embit.parse(BIP143)
    assert tx.serialize() == BIP143
    assert t.display(tx.txid) == other.txid().hex()
    assert tx.txid != tx.wtxid == t.double_sha256(BIP143)
    assert tx.inputs[1].witness == tuple(other.vin[1].witness.items)
    assert (tx.locktime, [o.value for o in tx.outputs]) == (17, [112340000, 223450000])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "cut short"),
        (BIP143[:-1], "cut short"),
        (BIP143 + b"\0", "after its end"),
        (COINBASE[:4] + b"\0" + COINBASE[5:], "announces|cut short|no inputs|after"),
        (COINBASE[:4] + b"\xfd\1\0" + COINBASE[5:], "minimally"),
        (COINBASE[:4] + b"\xfe\xff\xff\xff\xff" + COINBASE[5:], "announces"),
        (COINBASE[:4] + b"\0\1" + COINBASE[4:-4] + b"\0" + COINBASE[-4:], "none"),
        (bytes(t.MAX_TX_BYTES + 1), "at most"),
        ("00", "binary"),
    ],
)
def test_a_malformed_transaction_is_refused_by_name(raw, why):
    with pytest.raises(InvalidRecord, match=why) as caught:
        t.parse_transaction("funding", raw)
    assert caught.value.field == "funding"


@given(st.binary(max_size=300), st.integers(0, len(BIP143)))
def test_garbage_raises_the_one_error(junk, cut):
    for raw in (junk, BIP143[:cut] + junk, BIP143[:4] + junk):
        try:
            tx = t.parse_transaction("tx", raw)
        except InvalidRecord:
            continue
        assert tx.serialize() == raw


INS = st.lists(
    st.builds(
        TxIn,
        st.builds(Outpoint, st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1)),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=30),
        st.lists(st.binary(max_size=300), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=4,
)
OUTS = st.lists(
    st.builds(TxOut, st.integers(0, t.MAX_SAT), st.binary(max_size=40)), min_size=1, max_size=4
)


@given(INS, OUTS, st.integers(0, 2**32 - 1))
def test_any_transaction_survives_and_hashes_as_elsewhere(ins, outs, locktime):
    tx = Transaction(2, tuple(ins), tuple(outs), locktime)
    assert t.parse_transaction("tx", tx.serialize()) == tx
    assert t.display(tx.txid) == Embit.parse(tx.serialize()).txid().hex()


@given(
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True), st.data()
)
def test_merkle_branches_lead_to_the_root(hashes, data):
    at = data.draw(st.integers(0, len(hashes) - 1))
    branch = t.merkle_branch(hashes, at)
    root = t.merkle_root(hashes)
    assert t.root_from_branch(hashes[at], branch, at) == root
    assert t.root_from_branch(b"\1" + hashes[at][1:], branch, at) != root or hashes[at][0] == 1


def test_the_copy_of_an_odd_last_transaction_is_no_second_place():
    """CVE-2012-2459: the tree repeats it, so position 3 of 3 would lead to the same root."""
    hashes = [bytes([n]) * 32 for n in range(3)]
    branch = t.merkle_branch(hashes, 2)
    assert t.root_from_branch(hashes[2], branch, 2) == t.merkle_root(hashes)
    with pytest.raises(InvalidRecord, match="a second place for one transaction"):
        t.root_from_branch(hashes[2], branch, 3)


@pytest.mark.parametrize(
    ("branch", "position"),
    [((), 1), ((bytes(32),), 2), ((bytes(32),), -1), ((bytes(31),), 0), ((bytes(32),) * 21, 0)],
)
def test_a_branch_that_does_not_fit_is_refused(branch, position):
    with pytest.raises(InvalidRecord):
        t.root_from_branch(bytes(32), branch, position)


SHORT = Transaction(2, (TxIn(Outpoint(b"\7" * 32, 1)),), (TxOut(900, b"\x51" * 4),), 0)


def test_a_real_transaction_of_64_bytes_proves_nothing_that_hangs_below_it():
    """CVE-2017-12842: its last half would be the txid of a transaction that is in no block."""
    raw = SHORT.serialize()
    assert len(raw) == 64
    hashes = [bytes([n]) * 32 for n in range(4)] + [SHORT.txid]
    root, honest = t.merkle_root(hashes), t.merkle_branch(hashes, 4)
    assert t.root_from_branch(SHORT.txid, honest, 4) == root  # it is in the block itself
    with pytest.raises(InvalidRecord, match="passes off a transaction as two hashes"):
        t.root_from_branch(raw[32:], (raw[:32], *honest), 9)  # the invented one
    with pytest.raises(InvalidRecord, match="passes off a transaction as two hashes"):
        t.root_from_branch(raw[:32], (raw[32:], *honest), 8)


@pytest.mark.parametrize(
    "output", [TxOut(-1, b"\x51" * 4), TxOut(21 * 10**14 + 1, b"\x51" * 4)], ids=["debt", "excess"]
)
def test_two_hashes_that_no_block_could_hold_as_a_transaction_may_stand_together(output):
    raw = Transaction(2, SHORT.inputs, (output,), 0).serialize()
    assert t.root_from_branch(raw[32:], (raw[:32],), 1) == t.double_sha256(raw)


def test_median_time_is_bip_113s():
    assert t.median_time([5, 1, 9]) == 5
    assert t.median_time(range(11)) == 5


@pytest.mark.parametrize("value", [-1, t.MAX_SAT + 1])
def test_money_that_cannot_exist(value):
    with pytest.raises(InvalidRecord):
        t.checked_value("out", value)


def test_electrums_script_hash():
    # Electrum protocol documentation, "Script hashes": the genesis address's script
    script = bytes.fromhex("76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac")
    assert (
        t.scripthash(script) == "8b01df4e368ea28f8dc0423bcf7a4923e3a12d307c875e47a0cfbf90b5c39161"
    )
