"""The second decoder is right by the BIPs' vectors, and agrees with two other decoders."""

import hashlib
import random

import independent_decoder as second
import pytest

from p2pnode.base.transaction import (
    Outpoint,
    Transaction,
    TxIn,
    TxOut,
    display,
    parse_block,
    parse_transaction,
)

# Bitcoin's first block
GENESIS = (
    "01000000" + "00" * 32 + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    "29ab5f49ffff001d1dac2b7c01"
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d"
    "04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e20"
    "6272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000"
    "434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f355"
    "04e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)
# BIP 143, "P2SH-P2WPKH"
SEGWIT = (
    "01000000000101db6b1b20aa0fd7b23880be2ecbd4a98130974cf4748fb66092ac4d3ceb1a5477010000001716"
    "001479091972186c449eb1ded22b78e40d009bdf0089feffffff02b8b4eb0b000000001976a914a457b684d7f0"
    "d539a46a45bbc043f35b59d0d96388ac0008af2f000000001976a914fd270b1ee6abcaea97fea7ad0402e8bd8a"
    "d6d77c88ac02473044022047ac8e878352d3ebbde1c94ce3a10d057c24175747116f8288e5d794d12d482f0220"
    "217f36a485cae903c713331d877c1f64677e3622ad4010726870540656fe9dcb012103ad1d8e89212f0b92c74d"
    "23bb710c00662ad1470198ac48c43f7d6f93a2a2687392040000"
)


def test_the_first_block() -> None:
    (block,) = second.decode_chain([GENESIS], "bc")
    assert block.hash == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    (tx,) = block.txs
    assert tx.txid == "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    assert tx.coinbase
    assert [out.value for out in tx.outputs] == [50 * 10**8]


def test_a_segwit_transaction() -> None:
    tx = second.decode_transaction(SEGWIT)
    assert tx.txid == "ef48d9d0f595052e0f8cdcf825f7a5e50b6a388a81f206f3f4846e5ecd7a0c23"
    assert tx.inputs == (("77541aeb3c4dac9260b68f74f44c973081a9d4cb2ebe8038b2d70faa201b6bdb", 1),)
    assert [out.value for out in tx.outputs] == [199_996_600, 800_000_000]
    assert (tx.locktime, [len(item) for item in tx.witnesses[0]]) == (1170, [71, 33])


@pytest.mark.parametrize(
    ("hrp", "script", "address"),
    [
        (
            "bc",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        ),
        (
            "tb",
            "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
            "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
        ),
        (
            "bc",
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        ),
    ],
)
def test_addresses(hrp: str, script: str, address: str) -> None:
    assert second.address_of(bytes.fromhex(script), hrp) == address
    assert second.script_of(address) == bytes.fromhex(script)
    with pytest.raises(ValueError, match="checksum"):
        second.script_of(address[:-1] + ("q" if address[-1] != "q" else "p"))


@pytest.mark.parametrize("script", ["", "6a", "76a914" + "00" * 20 + "88ac", "0013" + "00" * 19])
def test_other_scripts_have_no_address(script: str) -> None:
    assert second.address_of(bytes.fromhex(script)) is None


def random_tx(rng: random.Random, spend: Outpoint | None = None) -> Transaction:
    inputs = [
        TxIn(
            spend if spend and not i else Outpoint(rng.randbytes(32), rng.randrange(4)),
            rng.randrange(1 << 32),
            rng.randbytes(rng.choice([0, 23])),
            tuple(rng.randbytes(rng.choice([0, 71, 300])) for _ in range(rng.randrange(4))),
        )
        for i in range(rng.randrange(1, 4))
    ]
    outputs = [
        TxOut(rng.randrange(1 << 40), b"\x00\x14" + rng.randbytes(20))
        for _ in range(rng.randrange(1, 4))
    ]
    return Transaction(2, tuple(inputs), tuple(outputs), rng.randrange(1 << 32))


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_the_node_and_with_embit(seed: int) -> None:
    from embit.transaction import Transaction as EmbitTransaction

    tx = random_tx(random.Random(seed))
    raw = tx.serialize()
    assert parse_transaction("tx", raw) == tx
    ours = second.decode_transaction(raw)
    theirs = EmbitTransaction.parse(raw)
    assert ours.txid == display(tx.txid) == theirs.txid().hex()
    assert ours.wtxid == display(tx.wtxid)
    assert ours.weight == tx.weight
    assert ours.inputs == tuple((display(i.outpoint.txid), i.outpoint.vout) for i in tx.inputs)
    assert ours.inputs == tuple((i.txid.hex(), i.vout) for i in theirs.vin)
    assert [(o.value, o.script) for o in ours.outputs] == [(o.value, o.script) for o in tx.outputs]
    assert list(ours.witnesses) == [i.witness for i in tx.inputs]


def double(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def block_of(prev: bytes, *txs: Transaction) -> bytes:
    row = [tx.txid for tx in txs]
    while len(row) > 1:
        row += row[-1:] if len(row) % 2 else []
        row = [double(row[i] + row[i + 1]) for i in range(0, len(row), 2)]
    head = bytes(4) + prev + row[0] + bytes(12)
    return head + bytes([len(txs)]) + b"".join(tx.serialize() for tx in txs)


def pay(value: int, script: bytes, *spends: Outpoint, note: bytes = b"") -> Transaction:
    source = [TxIn(s) for s in spends] or [TxIn(Outpoint(bytes(32), 0xFFFFFFFF), script_sig=note)]
    return Transaction(2, tuple(source), (TxOut(value, script), TxOut(7, b"\x6a")), 0)


A, B = b"\x00\x14" + b"a" * 20, b"\x51\x20" + b"b" * 32


def small_chain() -> list[bytes]:
    first = block_of(bytes(32), pay(5000, A, note=b"0"))
    coin = Outpoint(pay(5000, A, note=b"0").txid, 0)
    moved = pay(4900, B, coin)
    mint = pay(3000, A, note=b"1")
    return [first, block_of(double(first[:80]), mint, moved)]


def test_balances_spends_and_fees_of_a_small_chain() -> None:
    raws = small_chain()
    chain = second.decode_chain(raws)
    coin = (chain[0].txs[0].txid, 0)
    address = second.address_of(B)
    assert address is not None
    assert address.startswith("bcrt1p")
    assert second.balances(chain, {"a": [A, A], "b": [address], "both": [A, B], "none": []}) == {
        "a": 3000,
        "b": 4900,
        "both": 7900,
        "none": 0,
    }
    spend = second.find_spend(chain, coin)
    assert spend is not None
    assert second.find_tx(chain, spend.txid) == (spend, 1)
    assert second.fee(chain, spend) == 5000 - 4900 - 7
    assert second.find_spend(chain, (spend.txid, 0)) is None
    header, txs = parse_block(raws[1])
    assert [display(tx.txid) for tx in txs] == [tx.txid for tx in chain[1].txs]
    assert display(double(header)) == chain[1].hash


def test_what_does_not_add_up_is_refused() -> None:
    first, last = small_chain()
    with pytest.raises(ValueError, match="does not build on"):
        second.decode_chain([first, first])
    with pytest.raises(ValueError, match="merkle"):
        second.decode_block(last[:40] + bytes([last[40] ^ 1]) + last[41:])
    with pytest.raises(ValueError, match="after its transactions"):
        second.decode_block(last + b"\x00")
    with pytest.raises(ValueError, match="end too soon"):
        second.decode_block(last[:-1])
    stranger = block_of(double(first[:80]), pay(1, A, note=b"2"), pay(1, A, Outpoint(b"x" * 32, 0)))
    with pytest.raises(ValueError, match="which is not there"):
        second.balances(second.decode_chain([first, stranger]), {})
