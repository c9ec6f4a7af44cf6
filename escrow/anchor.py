"""Who can be drawn at an anchor: a function of the record and of our chain up to that block.

    record counts   at_height within h - 288 ... h - 6, at_hash our block, no party of the trade,
                    and its bond: old, locked, worth the amount, heavy and proven (`bond`)
    of one outpoint the newest record stands for it; two of that height put it out

The blocks lie at least six below the tip, so two honest nodes never differ. Pure. docs/draw.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from escrow.arbiters import ArbiterRecord
from escrow.bond import Eyes, check_bond
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

OLDEST: Final = 288
YOUNGEST: Final = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that counts, and its weight in the draw."""

    record: ArbiterRecord
    weight: int


@dataclass(frozen=True)
class Anchor:
    """A draw's anchor: height, amount traded in satoshi, both traders' ids, one's own chain.

    The chain must reach the anchor; whoever makes one has compared its hash first.
    """

    network: Network
    height: int
    amount_sat: int
    traders: frozenset[bytes]
    eyes: Eyes

    @cached_property
    def mtp(self) -> int:
        """Median time past at the anchor, unix seconds."""
        return self.eyes.mtp(self.height)

    def weigh(self, record: ArbiterRecord) -> int:
        """Return the weight of a record. Raises InvalidRecord naming what keeps it out."""
        if not self.height - OLDEST <= record.at_height <= self.height - YOUNGEST:
            raise InvalidRecord("at_height", f"is not {YOUNGEST} to {OLDEST} below the anchor")
        if record.node_id in self.traders:
            raise InvalidRecord("node_id", "is a party of the trade")
        if self.eyes.block_hash(record.at_height) != record.at_hash:
            raise InvalidRecord("at_hash", f"is not our chain's block {record.at_height}")
        if record.bond is None:
            return 1
        return check_bond(
            record.bond,
            network=self.network,
            anchor_h=self.height,
            mtp=self.mtp,
            amount_sat=self.amount_sat,
            eyes=self.eyes,
        )

    def counts(self, record: ArbiterRecord) -> bool:
        """Tell whether a record counts by itself."""
        try:
            return self.weigh(record) > 0
        except InvalidRecord:
            return False

    def candidates(self, records: Iterable[ArbiterRecord]) -> tuple[Candidate, ...]:
        """Return who can be drawn of `records`, ascending by outpoint; others are skipped."""
        found = []
        for record in newest(records).values():
            try:
                found.append(Candidate(record, self.weigh(record)))
            except InvalidRecord:
                continue  # in silence: it is nobody's fault
        return tuple(sorted(found, key=lambda c: c.record.outpoint))

    def of_any_value(self) -> "Anchor":
        """Return the same without the rule that a bond is worth the amount traded."""
        return replace(self, amount_sat=0)

    def size_fault(self, records: Iterable[ArbiterRecord], seen_weight: int) -> str:
        """Return why a set is too small to draw from, or nothing; judged before the seed exists.

        `records` are those of the lists in question, `seen_weight` is what this node has seen
        in 30 days: one who sees only an attacker's arbiters has seen others before.
        """
        listed = tuple(records)
        pool, whole = self.candidates(listed), self.of_any_value().candidates(listed)
        weight, all_weight = (sum(c.weight for c in found) for found in (pool, whole))
        if len(pool) < self.network.min_arbiters:
            needed = f"{len(pool)} eligible arbiters, {self.network.min_arbiters} are needed"
            if len(pool) < len(whole):
                needed += f"; {len(whole) - len(pool)} more have a bond below the amount"
            return needed
        if 2 * weight < all_weight:
            return "less than half of the arbiters' weight has a bond that is worth the amount"
        if 2 * all_weight < seen_weight:
            return "less than half of the arbiters that this node has seen in 30 days"
        return ""


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
