"""What everybody must hold at the end, from the contracts alone (docs/demo.md).

Recomputed here by the written formulas (docs/wire/transactions.md), sharing no code
with the node: opening balance, minus what was locked and the own share of the funding fee,
plus the own part of the payout. Every coin and output of the demo's wallets is P2WPKH; each
side brings one coin (largest first, and the largest suffices) and takes one change. Values
in satoshi, weights in weight units, rates in sat/vB.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

FUNDING_COMMON: Final = 107  # half of the 214 that both sides share
FUNDING_INPUT: Final = 272
PAYOUT_COMMON: Final = 42
PAYOUT_INPUT: Final = 530  # 2-of-3 with a backup branch, the kind that trades use by default
OUTPUT: Final = 124


def fee_for(rate: int, weight: int) -> int:
    """Return ceil(rate x weight / 4)."""
    return -(-rate * weight // 4)


@dataclass(frozen=True, slots=True)
class Deal:
    """The numbers of one contract, and who is who by the demo's names."""

    trade_id: str
    buyer: str
    seller: str
    arbiter: str
    arbiter_id: str
    escrow_txid: str
    amount_sat: int
    deposit_buyer_sat: int
    deposit_seller_sat: int
    arbiter_fee_sat: int
    rate: int

    @classmethod
    def of(cls, trade: Mapping[str, Any], names: Mapping[str, str]) -> Self:
        """Read the contract out of `GET /v1/trades/ID`; `names` maps node ids to names."""
        me, peer = names[_me(trade)], names[trade["peer"]]
        buyer, seller = (me, peer) if trade["role"] == "buyer" else (peer, me)
        return cls(
            trade_id=trade["trade_id"],
            buyer=buyer,
            seller=seller,
            arbiter=names[trade["arbiter"]],
            arbiter_id=trade["arbiter"],
            escrow_txid=trade["escrow_txid"],
            amount_sat=trade["amount_sat"],
            deposit_buyer_sat=trade["deposit_buyer_sat"],
            deposit_seller_sat=trade["deposit_seller_sat"],
            arbiter_fee_sat=trade["arbiter_fee_sat"],
            rate=trade["rate"],
        )

    @property
    def escrow_sat(self) -> int:
        """Value of the escrow."""
        return self.amount_sat + self.deposit_buyer_sat + self.deposit_seller_sat

    @property
    def release_sat(self) -> int:
        """What RELEASE gives the buyer, before the fee."""
        return self.amount_sat + self.deposit_buyer_sat


@dataclass(frozen=True, slots=True)
class Payout:
    """What leaves an escrow for whom; the four numbers sum to it."""

    buyer_sat: int
    seller_sat: int
    arbiter_sat: int
    fee_sat: int


def released(deal: Deal) -> Payout:
    """Return the payout of a trade that ended well."""
    return _payout(deal, deal.release_sat, deal.deposit_seller_sat, 0)


def ruled(deal: Deal, buyer_sat: int) -> Payout:
    """Return the payout of a verdict that gives the buyer this much before the fee."""
    rest = deal.escrow_sat - deal.arbiter_fee_sat - buyer_sat
    return _payout(deal, buyer_sat, rest, deal.arbiter_fee_sat)


def _payout(deal: Deal, buyer: int, seller: int, arbiter: int) -> Payout:
    outputs = sum(1 for value in (buyer, seller, arbiter) if value)
    fee = fee_for(deal.rate, PAYOUT_COMMON + PAYOUT_INPUT + OUTPUT * outputs)
    if buyer >= seller:
        return Payout(buyer - fee, seller, arbiter, fee)
    return Payout(buyer, seller - fee, arbiter, fee)


def expected(before: Mapping[str, int], ends: Iterable[tuple[Deal, Payout]]) -> dict[str, int]:
    """Return what each node must hold after these trades, from what it held before."""
    held = dict(before)
    for deal, payout in ends:
        share = fee_for(deal.rate, FUNDING_COMMON + FUNDING_INPUT + OUTPUT)
        held[deal.buyer] += payout.buyer_sat - deal.deposit_buyer_sat - share
        held[deal.seller] += payout.seller_sat - deal.amount_sat - deal.deposit_seller_sat - share
        held[deal.arbiter] += payout.arbiter_sat
    return held


def _me(trade: Mapping[str, Any]) -> str:
    mine: str = trade["taker"] if trade["peer"] == trade["maker"] else trade["maker"]
    return mine
