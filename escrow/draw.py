"""The draw of the arbiter: random, steered by neither trader, re-checkable by anyone.

    seed = SHA-256(tag "seed" || [id(TAKE), id(DRAW), n_T])
    set  = union of exactly the two lists, eligible records (`anchor`), ascending by outpoint
    for i = 0 (arbiter), 1 (runner-up): r = int_be(SHA-256(tag "pick" || [seed, i])) mod W,
        walk subtracting weights; then remove every record of the winner's node or bond key

Both lists are inside the seed: the taker's by the root in his TAKE, the maker's by his DRAW,
whose nonce he fixes before the taker's is known. Pure: `eyes` answers from one's own chain.
docs/draw.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from escrow.anchor import Anchor, Candidate
from escrow.arbiters import ArbiterRecord
from escrow.bond import Eyes
from escrow.messages import Message
from escrow.payloads import MAX_LISTED, Draw, Reveal, Take
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

ANCHOR_DEPTH: Final = 6  # the anchor lies this far below the taker's tip
ANCHOR_SLACK: Final = 3
FRESH_DEPTH: Final = 24  # an arbiter names a block this far below its own tip

Listed = tuple[tuple[bytes, bytes], ...]  # (outpoint, record id), ascending


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


def shortlist(pool: Iterable[Candidate]) -> list[ArbiterRecord]:
    """Return whom to list in a TAKE or DRAW: the heaviest."""
    chosen = sorted(pool, key=lambda c: (-c.weight, c.record.outpoint))[:MAX_LISTED]
    return [c.record for c in chosen]


def listing(records: Iterable[ArbiterRecord]) -> Listed:
    """Return records as a list of the wire: (outpoint, id), ascending by outpoint."""
    return tuple(sorted((r.outpoint, r.id) for r in records))


def listed_records(
    listed: Iterable[tuple[bytes, bytes]], records: Mapping[bytes, ArbiterRecord]
) -> tuple[ArbiterRecord, ...]:
    """Return the records of one or two lists, each once.

    Raises InvalidRecord for a listed record that is lacking or lies under another outpoint.
    """
    found = []
    for outpoint, record_id in sorted(set(listed)):
        record = records.get(record_id)
        if record is None:
            raise InvalidRecord("records", f"lack {record_id.hex()[:16]}…, which is listed")
        if record.outpoint != outpoint:
            raise InvalidRecord("arbiters", "list a record under another outpoint")
        found.append(record)
    return tuple(found)


def pick(network: Network, seed: bytes, pool: Iterable[Candidate]) -> tuple[ArbiterRecord, ...]:
    """Walk the weighted pool for arbiter and runner-up. Raises InvalidRecord for fewer than two."""
    left, winners = list(pool), []
    for i in (0, 1):
        total = sum(c.weight for c in left)
        if not total:
            raise InvalidRecord("arbiters", "are fewer than two nodes")
        ticket = wire.digest(wire.tag(network.name, "pick"), [seed, i])
        r = int.from_bytes(ticket, "big") % total
        for candidate in left:
            if r < candidate.weight:
                break
            r -= candidate.weight
        winners.append(candidate.record)
        left = [other for other in left if not _same_owner(other.record, candidate.record)]
    return tuple(winners)


def _same_owner(one: ArbiterRecord, other: ArbiterRecord) -> bool:
    """Tell whether two records are of one node, or of two that share a bond key."""
    keys = [r.bond.key for r in (one, other) if r.bond is not None]
    return one.node_id == other.node_id or (len(keys) == 2 and keys[0] == keys[1])


def conclude(
    take: Message,
    draw: Message,
    reveal: Message,
    records: Mapping[bytes, ArbiterRecord],
    eyes: Eyes,
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
    if eyes.block_hash(t.anchor_h) != t.anchor_hash:
        raise InvalidRecord("take.anchor_hash", f"is not our chain's block {t.anchor_h}")
    if d.take_id != take.id:
        raise InvalidRecord("draw.take_id", "is not the id of this TAKE")
    if r.draw_id != draw.id:
        raise InvalidRecord("reveal.draw_id", "is not the id of this DRAW")
    if commit(network, r.nonce) != t.commitment:
        raise InvalidRecord("reveal.nonce", "is not what the TAKE committed to")
    if root(network, r.arbiters) != t.root:
        raise InvalidRecord("reveal.arbiters", "are not what the TAKE committed to")
    anchor = anchor_of(take, eyes)
    pool = anchor.candidates(listed_records((*d.arbiters, *r.arbiters), records))
    if len(pool) < network.min_arbiters:
        raise InvalidRecord("arbiters", f"are {len(pool)} eligible, not {network.min_arbiters}")
    seed = seed_of(network, take.id, draw.id, r.nonce)
    arbiter, runner_up = pick(network, seed, pool)
    return Drawn(seed, arbiter, runner_up, len(pool))


def anchor_of(take: Message, eyes: Eyes) -> Anchor:
    """Return the anchor that a TAKE names, for the amount that it asks for."""
    t = Take.from_wire(take.payload)
    traders = frozenset((take.sender, take.recipient))
    return Anchor(take.network, t.anchor_h, t.amount_sat, traders, eyes)


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
