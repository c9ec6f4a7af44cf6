"""What a trade would cost one side, all in, before anybody signs anything.

Figures for the usual coins: one P2WPKH coin a side, P2WPKH change and payouts. Exact is what
the contract fixes (deposits, what is locked); the fee rate is the one of now, and the arbiter
is one of those who could be drawn now. Weights: docs/wire/transactions.md. Satoshi, sat/vB.
"""

from dataclasses import dataclass
from typing import Final

from escrow.contract import (
    ACK_S,
    KIND_BACKUP,
    REPLY_S,
    VERDICT_S,
    backup_blocks,
    depth_for,
)
from escrow.funding import (
    BASE_WEIGHT,
    COMMON_SHARE,
    COMMON_WEIGHT,
    P2WPKH_INPUT,
    fee_for,
)
from escrow.script import KINDS
from escrow.terms import Terms, deposit

P2WPKH_OUTPUT: Final = 124
STEP_S: Final = 60  # each answer from TAKE to CONTRACT
SIGNING_S: Final = 600  # from CONTRACT to the signed funding


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One side's costs of one trade. `locked` and `returned` are that side's own."""

    is_seller: bool
    amount_sat: int
    fiat_minor: int
    escrow_kind: str
    dep_b: int
    dep_s: int
    locked_sat: int
    rate: int
    funding_fee_sat: int
    payout_fee_sat: int  # of the release, off the buyer's share
    returned_sat: int  # at RELEASE
    arbiters: int  # who could be drawn now
    arbiter_low_sat: int  # only in a dispute
    arbiter_high_sat: int
    depth: int
    ack_s: int
    period_s: int
    reply_s: int
    verdict_s: int
    backup_blocks: int  # 0: no backup branch


def quote(
    terms: Terms,
    amount_sat: int,
    fiat_minor: int,
    *,
    is_seller: bool,
    escrow_kind: str,
    rate: int,
    fees: tuple[int, ...] = (),
) -> Quote:
    """Return one side's quote; `fees` are those of the arbiters who could be drawn."""
    dep_b, dep_s = deposit(terms.dep_b_bp, amount_sat), deposit(terms.dep_s_bp, amount_sat)
    locked = amount_sat + dep_s if is_seller else dep_b
    payout = BASE_WEIGHT + KINDS[escrow_kind].input_weights[0] + 2 * P2WPKH_OUTPUT
    payout_fee = fee_for(rate, payout)
    return Quote(
        is_seller=is_seller,
        amount_sat=amount_sat,
        fiat_minor=fiat_minor,
        escrow_kind=escrow_kind,
        dep_b=dep_b,
        dep_s=dep_s,
        locked_sat=locked,
        rate=rate,
        funding_fee_sat=_funding_fee(rate, dep_b, is_seller=is_seller),
        payout_fee_sat=payout_fee,
        returned_sat=dep_s if is_seller else amount_sat + dep_b - payout_fee,
        arbiters=len(fees),
        arbiter_low_sat=min(fees, default=0),
        arbiter_high_sat=max(fees, default=0),
        depth=depth_for(amount_sat),
        ack_s=ACK_S,
        period_s=terms.period_s,
        reply_s=REPLY_S,
        verdict_s=VERDICT_S,
        backup_blocks=backup_blocks(terms.period_s) if escrow_kind == KIND_BACKUP else 0,
    )


def _funding_fee(rate: int, dep_b: int, *, is_seller: bool) -> int:
    if not is_seller and not dep_b:
        return 0  # he brings no coin
    common = COMMON_SHARE if dep_b else COMMON_WEIGHT
    return fee_for(rate, common + P2WPKH_INPUT + P2WPKH_OUTPUT)
