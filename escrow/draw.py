"""The draw of the arbiter: random, steered by neither trader, re-checkable by anyone.

    seed = SHA-256(tag "seed" || [id(TAKE), id(DRAW), n_T])
    set  = union of exactly the two lists, eligible records, ascending by outpoint
    for i = 0 (arbiter), 1 (runner-up): r = int_be(SHA-256(tag "pick" || [seed, i])) mod W,
        walk subtracting weights; then remove the winner's node

Both lists are inside the seed: the taker's by the root in his TAKE, the maker's by his DRAW,
whose nonce he fixes before the taker's is known. Eligibility is a function of the record and
of blocks at least six below the tip, so two honest nodes never differ. Pure: `block_hash`
answers from one's own chain. docs/trade.md, section 3.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from escrow.arbiters import ArbiterRecord
from escrow.messages import Message
from escrow.payloads import MAX_LISTED, Draw, Reveal, Take
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

ANCHOR_DEPTH: Final = 6  # the anchor lies this far below the taker's tip
ANCHOR_SLACK: Final = 3
FRESH_DEPTH: Final = 24  # an arbiter names a block this far below its own tip
OLDEST: Final = 288
YOUNGEST: Final = 6

Listed = tuple[tuple[bytes, bytes], ...]  # (outpoint, record id), ascending
BlockHash = Callable[[int], bytes | None]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The outcome: seed, arbiter, runner-up and how many were eligible."""

    seed: bytes
    arbiter: ArbiterRecord
    runner_up: ArbiterRecord
    eligible: int


def commit(network: Network, nonce: bytes) -> bytes:
    """Return the taker's commitment to his nonce."""
    return wire.digest(wire.tag(network.name, "nonce"), [nonce])


def root(network: Network, listed: Listed) -> bytes:
    """Return the taker's commitment to his list."""
    return wire.digest(wire.tag(network.name, "arbiters"), listed)


def work_of(network: Network, take: Take, taker: bytes, work: int) -> bytes:
    """Return the hash whose leading zero bits are a TAKE's proof of work."""
    value = [take.offer_hash, take.anchor_hash, taker, take.commitment, work]
    return wire.digest(wire.tag(network.name, "take-work"), value)


def find_work(network: Network, take: Take, taker: bytes) -> int:
    """Return the first number that carries the work (2^bits hashes on average)."""
    work = 0
    while wire.leading_zero_bits(work_of(network, take, taker, work)) < network.take_bits:
        work += 1
    return work


def eligible(
    record: ArbiterRecord, *, anchor_h: int, traders: Iterable[bytes], block_hash: BlockHash
) -> bool:
    """Tell whether a record counts at the anchor; others are skipped in silence."""
    return (
        anchor_h - OLDEST <= record.at_height <= anchor_h - YOUNGEST
        and record.node_id not in traders
        and block_hash(record.at_height) == record.at_hash
    )


def newest(records: Iterable[ArbiterRecord]) -> dict[bytes, ArbiterRecord]:
    """Keep the newest record of each bond; two of one height put that bond out."""
    best: dict[bytes, ArbiterRecord] = {}
    clash: set[tuple[bytes, int]] = set()
    for record in records:
        other = best.get(record.outpoint)
        if other is None or record.at_height > other.at_height:
            best[record.outpoint] = record
        elif record.at_height == other.at_height and record.id != other.id:
            clash.add((record.outpoint, record.at_height))
    return {p: r for p, r in best.items() if (p, r.at_height) not in clash}


def shortlist(records: Iterable[ArbiterRecord]) -> Listed:
    """Return one's own list for a TAKE or DRAW from eligible records: the heaviest."""
    chosen = sorted(newest(records).values(), key=lambda r: (-r.weight, r.outpoint))[:MAX_LISTED]
    return tuple(sorted((r.outpoint, r.id) for r in chosen))


def large_enough(network: Network, records: Iterable[ArbiterRecord], seen_weight: int) -> str:
    """Return why a set is too small to draw from, or nothing; judged before the seed exists."""
    found = list(records)
    if len(found) < network.min_arbiters:
        return f"{len(found)} eligible arbiters, {network.min_arbiters} are needed"
    if 2 * sum(r.weight for r in found) < seen_weight:
        return "less than half of the arbiters that this node has seen in 30 days"
    return ""


def union(
    listed: Iterable[tuple[bytes, bytes]],
    records: Mapping[bytes, ArbiterRecord],
    *,
    anchor_h: int,
    traders: Iterable[bytes],
    block_hash: BlockHash,
) -> tuple[ArbiterRecord, ...]:
    """Return the eligible records of the lists, ascending by outpoint.

    Raises InvalidRecord for a listed record that is lacking or lies under another outpoint.
    """
    traders = frozenset(traders)
    found = []
    for outpoint, record_id in set(listed):
        record = records.get(record_id)
        if record is None:
            raise InvalidRecord("records", f"lack {record_id.hex()[:16]}…, which is listed")
        if record.outpoint != outpoint:
            raise InvalidRecord("arbiters", "list a record under another outpoint")
        found.append(record)
    kept = newest(found).values()
    chosen = (
        r for r in kept if eligible(r, anchor_h=anchor_h, traders=traders, block_hash=block_hash)
    )
    return tuple(sorted(chosen, key=lambda r: r.outpoint))


def pick(network: Network, seed: bytes, pool: Iterable[ArbiterRecord]) -> tuple[ArbiterRecord, ...]:
    """Walk the weighted pool for arbiter and runner-up. Raises InvalidRecord for fewer than two."""
    left, winners = list(pool), []
    for i in (0, 1):
        total = sum(r.weight for r in left)
        if not total:
            raise InvalidRecord("arbiters", "are fewer than two nodes")
        ticket = wire.digest(wire.tag(network.name, "pick"), [seed, i])
        r = int.from_bytes(ticket, "big") % total
        for record in left:
            if r < record.weight:
                break
            r -= record.weight
        winners.append(record)
        left = [other for other in left if other.node_id != record.node_id]
    return tuple(winners)


def conclude(
    take: Message,
    draw: Message,
    reveal: Message,
    records: Mapping[bytes, ArbiterRecord],
    block_hash: BlockHash,
) -> Drawn:
    """Check the commitments of the three messages and compute the draw from them alone.

    The messages' signatures were verified when they were parsed. Raises InvalidRecord naming
    the line that fails: this is what `draw verify` runs.
    """
    network = take.network
    t, d = Take.from_wire(take.payload), Draw.from_wire(draw.payload)
    r = Reveal.from_wire(reveal.payload)
    check_links(take, draw, reveal)
    if t.maker != draw.sender or take.recipient != t.maker:
        raise InvalidRecord("take.maker", "is not who answered")
    work = wire.leading_zero_bits(work_of(network, t, take.sender, t.work))
    if work < network.take_bits:
        raise InvalidRecord("take.work", f"has {work} zero bits of {network.take_bits}")
    if block_hash(t.anchor_h) != t.anchor_hash:
        raise InvalidRecord("take.anchor_hash", f"is not our chain's block {t.anchor_h}")
    if d.take_id != take.id:
        raise InvalidRecord("draw.take_id", "is not the id of this TAKE")
    if r.draw_id != draw.id:
        raise InvalidRecord("reveal.draw_id", "is not the id of this DRAW")
    if commit(network, r.nonce) != t.commitment:
        raise InvalidRecord("reveal.nonce", "is not what the TAKE committed to")
    if root(network, r.arbiters) != t.root:
        raise InvalidRecord("reveal.arbiters", "are not what the TAKE committed to")
    pool = union(
        (*d.arbiters, *r.arbiters),
        records,
        anchor_h=t.anchor_h,
        traders=(take.sender, take.recipient),
        block_hash=block_hash,
    )
    if len(pool) < network.min_arbiters:
        raise InvalidRecord("arbiters", f"are {len(pool)} eligible, not {network.min_arbiters}")
    seed = seed_of(network, take.id, draw.id, r.nonce)
    arbiter, runner_up = pick(network, seed, pool)
    return Drawn(seed, arbiter, runner_up, len(pool))


def seed_of(network: Network, take_id: bytes, draw_id: bytes, nonce: bytes) -> bytes:
    """Return the seed of a draw."""
    return wire.digest(wire.tag(network.name, "seed"), [take_id, draw_id, nonce])


def check_links(take: Message, draw: Message, reveal: Message) -> None:
    """Check that the three headers are one trade between two parties. Raises InvalidRecord."""
    for name, message, sender, recipient in (
        ("draw", draw, take.recipient, take.sender),
        ("reveal", reveal, take.sender, take.recipient),
    ):
        if message.trade_id != take.id:
            raise InvalidRecord(f"{name}.trade_id", "is not the id of this TAKE")
        if (message.sender, message.recipient) != (sender, recipient):
            raise InvalidRecord(f"{name}.sender", "is not a party of this TAKE")
