"""A second implementation of the draw, from docs/draw.md and docs/wire.md alone.

Standard library and msgpack: not a line of the node's code, so that a mistake must be made
twice to pass. It makes `tests/vectors/draw.json` and recomputes `trade_draw.json`. Signatures
are not its business. A chain is three functions of a height: hash, merkle root, median time.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgpack

YEAR = 365 * 24 * 60 * 60
RULES = {  # network: (bonds needed, age in blocks, seconds locked, weight)
    "main": (7, 2016, 90 * 86_400, 1_000_000),
    "sandbox": (3, 2, 3600, 1),
}


@dataclass(frozen=True)
class Chain:
    hash: Callable[[int], bytes | None]
    root: Callable[[int], bytes | None]
    median: Callable[[int], int]


@dataclass(frozen=True)
class Entry:
    """What the walk needs of a record."""

    outpoint: bytes
    weight: int
    node: bytes
    bond_key: bytes


def H(network: str, kind: str, value: Any) -> bytes:
    tag = f"p2pnode/{network}/{kind}/1\0".encode()
    return hashlib.sha256(tag + msgpack.packb(value, use_bin_type=True)).digest()


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


# ------------------------------------------------------------------ bonds


def script_number(value: int) -> bytes:
    out = []
    while value:
        out.append(value & 0xFF)
        value >>= 8
    if out and out[-1] >= 0x80:
        out.append(0)
    return bytes(out)


def bond_script(lock_time: int, key: bytes) -> bytes:
    number = script_number(lock_time)
    return bytes([len(number), *number, 0xB1, 0x75, len(key), *key, 0xAC])


def bond_output(lock_time: int, key: bytes) -> bytes:
    return bytes([0, 32]) + hashlib.sha256(bond_script(lock_time, key)).digest()


def weight(sat: int, lock_time: int, median: int) -> int:
    seconds = min(YEAR, lock_time - median)
    return sat * seconds // YEAR if seconds > 0 else 0


def output_of(tx: bytes, number: int) -> tuple[int, bytes]:
    """Value and script of one output of a stripped transaction with short counts."""
    at = 5
    for _ in range(tx[4]):
        at += 36
        at += 1 + tx[at] + 4
    count, at = tx[at], at + 1
    found = []
    for _ in range(count):
        value = int.from_bytes(tx[at : at + 8], "little")
        length = tx[at + 8]
        found.append((value, tx[at + 9 : at + 9 + length]))
        at += 9 + length
    assert at + 4 == len(tx)
    return found[number]


def climb(leaf: bytes, position: int, branch: Iterable[bytes]) -> bytes:
    for other in branch:
        leaf = sha256d(other + leaf) if position % 2 else sha256d(leaf + other)
        position //= 2
    return leaf


# ------------------------------------------------------------------ who counts


def entry_of(
    fields: Any, *, anchor: int, amount: int, traders: set[bytes], chain: Chain
) -> Entry | None:
    """Return what a record brings to a draw, or None if it does not count."""
    version, network, outpoint, tx, height, position, branch, key, lock_time = fields[:9]
    node, at_height, at_hash = fields[9], fields[14], fields[15]
    if at_height < anchor - 288 or at_height > anchor - 6 or node in traders:
        return None
    if chain.hash(at_height) != at_hash:
        return None
    if version == 0:
        return Entry(outpoint, 1, node, b"")
    _, age, seconds, least = RULES[network]
    value, script = output_of(tx, int.from_bytes(outpoint[32:], "big"))
    median = chain.median(anchor)
    w = weight(value, lock_time, median)
    good = (
        sha256d(tx) == outpoint[:32]
        and script == bond_output(lock_time, key)
        and chain.root(height) == climb(outpoint[:32], position, branch)
        and anchor - height >= age
        and lock_time - median >= seconds
        and value >= amount
        and w >= least
    )
    return Entry(outpoint, w, node, key) if good else None


def standing(records: Iterable[Any]) -> list[Any]:
    """Of one outpoint's records the newest; two of that height put it out."""
    by_point: dict[bytes, list[Any]] = {}
    for fields in records:
        by_point.setdefault(fields[2], []).append(fields)
    found = []
    for group in by_point.values():
        top = max(fields[14] for fields in group)
        last = {msgpack.packb(f, use_bin_type=True): f for f in group if f[14] == top}
        if len(last) == 1:
            found += last.values()
    return found


# ------------------------------------------------------------------ the walk


def walk(network: str, seed: bytes, pool: Iterable[Entry]) -> list[Entry]:
    left, drawn = sorted(pool, key=lambda e: e.outpoint), []
    for i in range(2):
        ticket = int.from_bytes(H(network, "pick", [seed, i]), "big")
        ticket %= sum(e.weight for e in left)
        ends = [sum(e.weight for e in left[: n + 1]) for n in range(len(left))]
        winner = left[next(n for n, end in enumerate(ends) if ticket < end)]
        drawn.append(winner)
        left = [
            e
            for e in left
            if e.node != winner.node and not (e.bond_key and e.bond_key == winner.bond_key)
        ]
    return drawn


def key_path(network: str, seed: bytes, outpoint: bytes) -> list[int]:
    digest = H(network, "arbiter-key", [seed, outpoint])
    return [int.from_bytes(digest[i : i + 4], "big") % 2**31 for i in (0, 4, 8, 12)]


# ------------------------------------------------------------------ a whole transcript


def transcript(file: Any, chain: Chain) -> tuple[bytes, list[Entry], int]:
    """Return seed, arbiter and runner-up, and how many counted, of a `draw verify` file."""
    network = file["network"]
    ids, payloads, bodies = {}, {}, {}
    for name in ("take", "draw", "reveal"):
        lines = file[name]
        body = [
            bytes.fromhex(line) if isinstance(line, str) else line
            for line in list(lines.values())[:12]
        ]
        payload = bytes.fromhex(lines["payload"])
        assert body[11] == hashlib.sha256(payload).digest()
        ids[name], bodies[name] = H(network, "message", body), body
        payloads[name] = msgpack.unpackb(payload)
    take, draw, reveal = (payloads[name] for name in ("take", "draw", "reveal"))
    assert take[10] == H(network, "arbiters", reveal[2])
    assert take[11] == H(network, "nonce", [reveal[1]])
    assert [draw[0], reveal[0]] == [ids["take"], ids["draw"]]
    listed = {tuple(pair) for pair in (*draw[2], *reveal[2])}
    records = [msgpack.unpackb(bytes.fromhex(line))[0] for line in file["records"]]
    assert {(r[2], H(network, "arbiter", r)) for r in records} == listed
    traders = {bodies["take"][3], bodies["take"][4]}
    found = [
        entry_of(fields, anchor=take[7], amount=take[3], traders=traders, chain=chain)
        for fields in standing(records)
    ]
    pool = [entry for entry in found if entry is not None]
    assert len(pool) >= RULES[network][0]
    seed = H(network, "seed", [ids["take"], ids["draw"], reveal[1]])
    return seed, walk(network, seed, pool), len(pool)
