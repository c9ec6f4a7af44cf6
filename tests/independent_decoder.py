"""Reads Bitcoin blocks without a line of the node's code, so that tests can recount money.

Written from the specifications alone: transactions and witnesses (BIP 141, 144), addresses
(BIP 173, 350), block layout and merkle tree (Bitcoin protocol documentation). Standard
library only. Ids are display hex (reversed), values satoshi, scripts raw bytes. Whatever
does not add up (lengths, merkle root, chain links) raises ValueError.

    chain = decode_chain(raw_blocks)
    balances(chain, {"maker": ["bcrt1q…", …]})   {"maker": 123}
    find_spend(chain, (txid, 0))                 the Tx that spends it, or None
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32, BECH32M = 1, 0x2BC830A3
Point = tuple[str, int]  # txid, output number


@dataclass(frozen=True)
class Out:
    """An output."""

    value: int
    script: bytes
    address: str | None  # None if it is not native SegWit


@dataclass(frozen=True)
class Tx:
    """A transaction."""

    txid: str
    wtxid: str
    version: int
    locktime: int
    inputs: tuple[Point, ...]
    sequences: tuple[int, ...]
    witnesses: tuple[tuple[bytes, ...], ...]
    outputs: tuple[Out, ...]
    weight: int

    @property
    def coinbase(self) -> bool:
        return self.inputs == (("00" * 32, 0xFFFFFFFF),)


@dataclass(frozen=True)
class Block:
    """A block; `height` counts from the first one given."""

    hash: str
    prev: str
    time: int
    height: int
    txs: tuple[Tx, ...]


def decode_chain(raws: Iterable[bytes | str], hrp: str = "bcrt", first: int = 0) -> list[Block]:
    """Decode blocks in order of height from `first`; each must build on the one before."""
    chain: list[Block] = []
    for height, raw in enumerate(raws, first):
        block = decode_block(_bytes(raw), hrp, height)
        if chain and block.prev != chain[-1].hash:
            raise ValueError(f"block {height} does not build on block {height - 1}")
        chain.append(block)
    return chain


def decode_block(raw: bytes, hrp: str = "bcrt", height: int = 0) -> Block:
    """Decode one block and check its merkle root against its header."""
    count, at = _size(raw, 80)
    txs = []
    for _ in range(count):
        tx, at = _transaction(raw, at, hrp)
        txs.append(tx)
    if at != len(raw):
        raise ValueError("the block has bytes after its transactions")
    if _merkle([bytes.fromhex(tx.txid)[::-1] for tx in txs]) != raw[36:68]:
        raise ValueError("the merkle root is another")
    when = int.from_bytes(raw[68:72], "little")
    return Block(_shown(_hash(raw[:80])), _shown(raw[4:36]), when, height, tuple(txs))


def decode_transaction(raw: bytes | str, hrp: str = "bcrt") -> Tx:
    """Decode one whole transaction."""
    data = _bytes(raw)
    tx, at = _transaction(data, 0, hrp)
    if at != len(data):
        raise ValueError("the transaction has bytes after its end")
    return tx


def unspent(chain: Sequence[Block]) -> dict[Point, Out]:
    """Return every output that no transaction of the chain spends."""
    coins: dict[Point, Out] = {}
    whole = bool(chain) and chain[0].height == 0  # else some outputs lie below what was given
    for block in chain:
        for tx in block.txs:
            if not tx.coinbase:
                for point in tx.inputs:
                    if whole and point not in coins:
                        raise ValueError(f"{tx.txid} spends {point}, which is not there")
                    coins.pop(point, None)
            coins |= {(tx.txid, n): out for n, out in enumerate(tx.outputs)}
    return coins


def balances(
    chain: Sequence[Block], owners: Mapping[str, Collection[bytes | str]]
) -> dict[str, int]:
    """Return the unspent satoshi of each owner, by his scripts or addresses."""
    held: dict[bytes, int] = {}
    for out in unspent(chain).values():
        held[out.script] = held.get(out.script, 0) + out.value
    return {
        owner: sum(held.get(script, 0) for script in {_script(s) for s in scripts})
        for owner, scripts in owners.items()
    }


def find_spend(chain: Sequence[Block], outpoint: Point) -> Tx | None:
    """Return the transaction that spends an output, or None."""
    return next((tx for block in chain for tx in block.txs if outpoint in tx.inputs), None)


def find_tx(chain: Sequence[Block], txid: str) -> tuple[Tx, int]:
    """Return a transaction and its height. Raises KeyError."""
    for block in chain:
        for tx in block.txs:
            if tx.txid == txid:
                return tx, block.height
    raise KeyError(txid)


def fee(chain: Sequence[Block], tx: Tx) -> int:
    """Return what a confirmed transaction left to the miner."""
    spent = (find_tx(chain, txid)[0].outputs[n].value for txid, n in tx.inputs)
    return sum(spent) - sum(out.value for out in tx.outputs)


# ------------------------------------------------------------------ addresses


def address_of(script: bytes, hrp: str = "bcrt") -> str | None:
    """Return a native SegWit script's address, None for any other script."""
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    version = 0 if script[0] == 0 else script[0] - 0x50
    if not 0 <= version <= 16 or (version == 0 and len(script) not in (22, 34)):
        return None
    data = [version, *_regroup(script[2:], 8, 5)]
    want = BECH32 if version == 0 else BECH32M
    check = _polymod([*_expand(hrp), *data, 0, 0, 0, 0, 0, 0]) ^ want
    data += [check >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{hrp}1" + "".join(CHARSET[d] for d in data)


def script_of(address: str) -> bytes:
    """Return the script of a native SegWit address of any network."""
    hrp, _, tail = address.rpartition("1")
    data = [CHARSET.index(c) for c in tail]
    version = data[0]
    if _polymod([*_expand(hrp), *data]) != (BECH32 if version == 0 else BECH32M):
        raise ValueError(f"{address} has a wrong checksum")
    program = bytes(_regroup(data[1:-6], 5, 8))
    script = bytes([0x50 + version if version else 0, len(program)]) + program
    if address_of(script, hrp) != address:
        raise ValueError(f"{address} is not an address in its one spelling")
    return script


def _script(one: bytes | str) -> bytes:
    return one if isinstance(one, bytes) else script_of(one)


def _expand(hrp: str) -> list[int]:
    return [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> i & 1 else 0
    return check


def _regroup(data: Iterable[int], old: int, new: int) -> list[int]:
    number = bits = 0
    out = []
    for value in data:
        number, bits = number << old | value, bits + old
        while bits >= new:
            bits -= new
            out.append(number >> bits & (1 << new) - 1)
    if bits and new == 5:
        out.append(number << new - bits & 31)
    return out


# ------------------------------------------------------------------ bytes


def _transaction(raw: bytes, start: int, hrp: str) -> tuple[Tx, int]:
    version = int.from_bytes(_take(raw, start, 4), "little", signed=True)
    at = start + 4
    segwit = _take(raw, at, 2) == b"\x00\x01"
    body = at = at + 2 if segwit else at
    count, at = _size(raw, at)
    inputs, sequences = [], []
    for _ in range(count):
        inputs.append(
            (_shown(_take(raw, at, 32)), int.from_bytes(_take(raw, at + 32, 4), "little"))
        )
        length, at = _size(raw, at + 36)
        sequences.append(int.from_bytes(_take(raw, at + length, 4), "little"))
        at += length + 4
    count, at = _size(raw, at)
    outputs = []
    for _ in range(count):
        value = int.from_bytes(_take(raw, at, 8), "little")
        length, at = _size(raw, at + 8)
        script = _take(raw, at, length)
        outputs.append(Out(value, script, address_of(script, hrp)))
        at += length
    end, stacks = at, []
    for _ in range(len(inputs) if segwit else 0):
        items, at = _size(raw, at)
        stack = []
        for _ in range(items):
            length, at = _size(raw, at)
            stack.append(_take(raw, at, length))
            at += length
        stacks.append(tuple(stack))
    tail = _take(raw, at, 4)
    stripped = raw[start : start + 4] + raw[body:end] + tail
    whole = raw[start : at + 4]
    return Tx(
        txid=_shown(_hash(stripped)),
        wtxid=_shown(_hash(whole)),
        version=version,
        locktime=int.from_bytes(tail, "little"),
        inputs=tuple(inputs),
        sequences=tuple(sequences),
        witnesses=tuple(stacks) or ((),) * len(inputs),
        outputs=tuple(outputs),
        weight=3 * len(stripped) + len(whole),
    ), at + 4


def _take(raw: bytes, at: int, count: int) -> bytes:
    piece = raw[at : at + count]
    if len(piece) != count:
        raise ValueError("the bytes end too soon")
    return piece


def _size(raw: bytes, at: int) -> tuple[int, int]:
    first = _take(raw, at, 1)[0]
    width = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first, 0)
    number = int.from_bytes(_take(raw, at + 1, width), "little") if width else first
    return number, at + 1 + width


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def _shown(hash_: bytes) -> str:
    return hash_[::-1].hex()


def _merkle(row: list[bytes]) -> bytes:
    while len(row) > 1:
        row = row + row[-1:] if len(row) % 2 else row
        row = [_hash(row[i] + row[i + 1]) for i in range(0, len(row), 2)]
    return row[0] if row else b""


def _bytes(raw: bytes | str) -> bytes:
    return raw if isinstance(raw, bytes) else bytes.fromhex(raw)
