"""What receipts weigh: how a past is worked out of what is proven, and what counts for nothing.

    counted once      of one trade id, and of one funding transaction
    no credit         a verdict that was not for him
    not yet           its counterparty is not 30 days old: the first trade in which a receipt
                      that we have verified names him was funded less than that ago
    circular          he belongs to a closed ring: all who have traded with each other have shown
                      us their receipts, none of these names anybody outside, and none of them
                      has traded with us
    enough of one     beyond the five oldest with one counterparty

A trade with ourselves weighs by itself: we were there. Times are the chain's (median time past
of the funding's block), so nobody's clock makes a trade older. Pure. docs/trade.md, "History".
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from escrow.proven import Proven
from p2pnode.base.history import DAY_S, History
from p2pnode.base.units import COIN, PRICE_SCALE

AGE_S: Final = 30 * DAY_S
PER_PARTNER: Final = 5
MAX_SHOWN: Final = 64  # receipts in one answer

WEIGHS: Final = ""
TWICE: Final = "is of a trade, or of a funding, that was counted already"
NO_CREDIT: Final = "ended by a verdict that was not for him"
CIRCULAR: Final = "is of a closed ring: nobody outside it is named"
ENOUGH: Final = f"is one more than {PER_PARTNER} with one counterparty"


@dataclass(frozen=True, slots=True)
class Weighed:
    """One trade of somebody's past; `why` says why it weighs nothing, empty where it does."""

    proven: Proven
    partner: bytes
    why: str


def named_since(known: Iterable[Proven]) -> dict[bytes, int]:
    """Return when the first trade was funded in which a receipt names each trader."""
    since: dict[bytes, int] = {}
    for one in known:
        for node_id in one.parties:
            since[node_id] = min(since.get(node_id, one.funded_at), one.funded_at)
    return since


def circular(known: Iterable[Proven], shown_by: Collection[bytes], me: bytes) -> frozenset[bytes]:
    """Return the members of closed rings: `shown_by` are those who have shown us receipts."""
    group: dict[bytes, bytes] = {}

    def root(node_id: bytes) -> bytes:
        while group.setdefault(node_id, node_id) != node_id:
            group[node_id] = group[group[node_id]]
            node_id = group[node_id]
        return node_id

    for one in known:
        group[root(one.maker)] = root(one.taker)
    apart = {root(node_id) for node_id in group if node_id == me or node_id not in shown_by}
    return frozenset(node_id for node_id in group if root(node_id) not in apart)


def weigh(
    node_id: bytes,
    past: Iterable[Proven],
    since: Mapping[bytes, int],
    rings: Collection[bytes],
    me: bytes,
    now: int,
) -> tuple[Weighed, ...]:
    """Weigh the trades of one node, oldest first; `now` is the chain's median time past.

    `past` are verified receipts that he has shown, or that we hold of trades with him; one that
    does not name him is none of his past, and left out.
    """
    found, partners = [], Counter[bytes]()
    trades: set[bytes] = set()
    fundings: set[bytes] = set()
    for one in sorted(past, key=lambda p: (p.funded_at, p.trade_id, p.contract_hash)):
        if node_id not in one.parties:
            continue
        partner = one.other(node_id)
        why = WEIGHS
        if one.trade_id in trades or one.funding_txid in fundings:
            why = TWICE
        elif not one.credits(node_id):
            why = NO_CREDIT
        elif partner != me and node_id in rings:
            why = CIRCULAR
        elif partner != me and (left := since.get(partner, now) + AGE_S - now) > 0:
            why = f"its counterparty is not 30 days old: {-(-left // DAY_S)} more"
        elif partners[partner] >= PER_PARTNER:
            why = ENOUGH
        if not why:
            trades.add(one.trade_id)
            fundings.add(one.funding_txid)
            partners[partner] += 1
        found.append(Weighed(one, partner, why))
    return tuple(found)


def history(weighed: Iterable[Weighed]) -> History:
    """Return what weighs, in three numbers."""
    good = [w for w in weighed if not w.why]
    return History(
        trades=len(good),
        partners=len({w.partner for w in good}),
        first_at=min((w.proven.funded_at for w in good), default=0),
    )


def selection(node_id: bytes, own: Iterable[Proven], most: int = MAX_SHOWN) -> list[Proven]:
    """Return which of one's own receipts to show: those that may weigh, old and new.

    Of each partner the five oldest; of these, where they are too many, the first of as many
    partners as there is room for in half of it, and for the rest the newest.
    """
    partners = Counter[bytes]()
    firsts: list[Proven] = []
    others: list[Proven] = []
    for one in sorted(own, key=lambda p: (p.funded_at, p.trade_id)):
        partner = one.other(node_id)
        if not one.credits(node_id) or partners[partner] >= PER_PARTNER:
            continue
        (others if partners[partner] else firsts).append(one)
        partners[partner] += 1
    chosen = firsts[: most // 2]
    rest = sorted([*firsts[most // 2 :], *others], key=lambda p: (-p.funded_at, p.trade_id))
    return chosen + rest[: most - len(chosen)]


# ------------------------------------------------------------------ statistics


@dataclass(frozen=True, slots=True)
class Sale:
    """One released trade: when it was funded, how much, and at which price."""

    at: int
    amount_sat: int
    fiat_minor: int

    @property
    def price(self) -> int:
        """Minor units per BTC x 10^4, rounded down."""
        return self.fiat_minor * COIN * PRICE_SCALE // self.amount_sat


@dataclass(frozen=True, slots=True)
class Statistics:
    """What receipts held here say of one market. Prices in minor units per BTC x 10^4."""

    currency: str
    sales: tuple[Sale, ...]  # oldest first

    @property
    def amount_sat(self) -> int:
        """Satoshi traded."""
        return sum(s.amount_sat for s in self.sales)

    @property
    def fiat_minor(self) -> int:
        """Minor units paid."""
        return sum(s.fiat_minor for s in self.sales)

    @property
    def prices(self) -> tuple[int, int, int]:
        """The lowest price, the median (the lower of two) and the highest."""
        found = [s.price for s in self.sales]
        return min(found), median_low(found), max(found)

    @property
    def average(self) -> int:
        """The price of all of it: the mean weighed by amount."""
        return self.fiat_minor * COIN * PRICE_SCALE // self.amount_sat


def statistics(known: Iterable[Proven], *, currency: str = "", since: int = 0) -> list[Statistics]:
    """Return the released trades by currency, each once, most trades first.

    One funding transaction counts as one trade, whatever is said to hang on it.
    """
    once: dict[bytes, Proven] = {}
    for one in known:
        if one.outcome == "released" and one.funded_at >= since:
            kept = once.setdefault(one.funding_txid, one)
            if one.contract_hash < kept.contract_hash:
                once[one.funding_txid] = one
    markets: dict[str, list[Sale]] = {}
    for one in once.values():
        if currency in ("", one.currency):
            sale = Sale(one.funded_at, one.amount_sat, one.fiat_minor)
            markets.setdefault(one.currency, []).append(sale)
    found = [Statistics(name, _ordered(sales)) for name, sales in markets.items()]
    return sorted(found, key=lambda s: (-len(s.sales), s.currency))


def _ordered(sales: Sequence[Sale]) -> tuple[Sale, ...]:
    return tuple(sorted(sales, key=lambda s: (s.at, s.amount_sat, s.fiat_minor)))
