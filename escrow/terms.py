"""From an offer's promise and three messages to the contract.

`Terms` is what the trade needs of an offer; the composition root makes it, so that this
room knows no order book. `Conditions` are the contract's values that the offer fixes;
everything else follows from TAKE, DRAW, REVEAL and the draw (docs/trade.md, section 6).
"""

from dataclasses import dataclass
from typing import Self

from escrow.contract import (
    FUND_WITHIN,
    KIND_BACKUP,
    KINDS_ALLOWED,
    REPLY_S,
    VERDICT_S,
    Contract,
    backup_blocks,
    depth_for,
)
from escrow.draw import Drawn
from escrow.fields import Fields, checked, listing
from escrow.keys import arbiter_public
from escrow.messages import Message
from escrow.payloads import Draw, Reveal, Take
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.units import MAX_FIAT_MINOR, MAX_PRICE, MAX_SAT, decimal, fiat_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The contract's values that come from the offer. Deposits in satoshi."""

    maker_is_seller: int
    currency: str
    dep_b: int
    dep_s: int
    period_s: int

    @classmethod
    def of(cls, contract: Contract) -> Self:
        """Read them back from a contract that both have signed."""
        return cls(
            maker_is_seller=contract.maker_is_seller,
            currency=contract.currency,
            dep_b=contract.dep_b,
            dep_s=contract.dep_s,
            period_s=contract.period_s,
        )


def _kind(name: str, value: object) -> str:
    found = wire.text(name, value, 32, low=1)
    if found not in KINDS_ALLOWED:
        raise InvalidRecord(name, f"is none of {', '.join(KINDS_ALLOWED)}")
    return found


def _deposit_bp(name: str, value: object) -> int:
    """Check a buyer's deposit in basis points: none, or as a seller's."""
    return 0 if type(value) is int and value == 0 else wire.within(name, value, 1000, 5000)


@dataclass(frozen=True, kw_only=True)
class Terms(Fields):
    """What an offer promises for one of its methods.

    Price in minor units per BTC x 10^4, deposits in basis points. `slack_bp`: how far, in
    basis points, a TAKE's sum may lie from the price: 0 where that is fixed, more where it
    follows a market that the two sides see each for itself.
    """

    offer_hash: bytes = checked(lambda n, v: wire.exact(n, v, 32))
    maker: bytes = checked(lambda n, v: wire.exact(n, v, 32))
    maker_is_seller: int = checked(lambda n, v: wire.within(n, v, 0, 1))
    currency: str = checked(lambda n, v: wire.text(n, v, 3, low=3))
    exponent: int = checked(lambda n, v: wire.within(n, v, 0, 8))
    min_sat: int = checked(lambda n, v: wire.within(n, v, 1, MAX_SAT))
    max_sat: int = checked(lambda n, v: wire.within(n, v, 1, MAX_SAT))
    price: int = checked(lambda n, v: wire.within(n, v, 1, MAX_PRICE))
    slack_bp: int = checked(lambda n, v: wire.within(n, v, 0, 1000))
    method: str = checked(lambda n, v: wire.text(n, v, 32, low=1))
    period_s: int = checked(lambda n, v: wire.within(n, v, 3600, 60 * 86_400))
    dep_b_bp: int = checked(_deposit_bp)
    dep_s_bp: int = checked(lambda n, v: wire.within(n, v, 1000, 5000))
    escrow_kinds: tuple[str, ...] = checked(listing(len(KINDS_ALLOWED), _kind, low=1))

    def kind(self, wanted: str = "") -> str:
        """Return the escrow kind wanted, or the offer's best. Raises InvalidRecord."""
        if wanted and wanted not in self.escrow_kinds:
            raise InvalidRecord("escrow_kind", f"is none of {', '.join(self.escrow_kinds)}")
        return wanted or max(self.escrow_kinds, key=KINDS_ALLOWED.index)

    def conditions(self, amount_sat: int) -> Conditions:
        """Return the contract's values for a trade of `amount_sat`."""
        return Conditions(
            maker_is_seller=self.maker_is_seller,
            currency=self.currency,
            dep_b=deposit(self.dep_b_bp, amount_sat),
            dep_s=deposit(self.dep_s_bp, amount_sat),
            period_s=self.period_s,
        )

    def check(self, take: Take, agreed: int | None = None) -> None:
        """Compare a TAKE with the offer. Raises InvalidRecord naming the field and our value.

        `agreed` is the sum of the COUNTER that it names, in place of the offer's price.
        """
        if take.offer_hash != self.offer_hash:
            raise InvalidRecord("offer_hash", "is not this offer's")
        if take.maker != self.maker:
            raise InvalidRecord("maker", "is not this offer's")
        wire.within("amount_sat", take.amount_sat, self.min_sat, self.max_sat)
        self._check_sum(take, agreed)
        if take.method != self.method:
            raise InvalidRecord("method", f"is not {self.method}")
        if take.escrow_kind not in self.escrow_kinds:
            raise InvalidRecord("escrow_kind", f"is none of {', '.join(self.escrow_kinds)}")

    def _check_sum(self, take: Take, agreed: int | None) -> None:
        fiat = fiat_for(take.amount_sat, self.price) if agreed is None else agreed
        slack = fiat * self.slack_bp // 10_000 if agreed is None else 0
        if abs(take.fiat_minor - fiat) <= slack and 0 < take.fiat_minor <= MAX_FIAT_MINOR:
            return
        if self.slack_bp and agreed is None:
            theirs, ours = (
                f"{decimal(minor, self.exponent)} {self.currency}"
                for minor in (take.fiat_minor, fiat)
            )
            raise InvalidRecord(
                "fiat_minor",
                f"is {theirs} by your view of the market and {ours} by ours, over "
                f"{decimal(self.slack_bp, 2)} % apart",
            )
        whose = "the offer's price for this amount" if agreed is None else "the COUNTER's sum"
        raise InvalidRecord("fiat_minor", f"is not {fiat}, {whose}")


def deposit(basis_points: int, amount_sat: int) -> int:
    """Return a deposit in satoshi, rounded up: a tenth (10,000 sat) at least, half at most.

    No basis points make no deposit.
    """
    if not basis_points:
        return 0
    wanted = max(-(-amount_sat * basis_points // 10_000), -(-amount_sat // 10), 10_000)
    return min(wanted, amount_sat // 2)


def build_contract(
    conditions: Conditions, take: Message, draw: Message, reveal: Message, drawn: Drawn
) -> Contract:
    """Return the contract that these messages make. Raises InvalidRecord for a bad bound."""
    network: Network = take.network
    t, d = Take.from_wire(take.payload), Draw.from_wire(draw.payload)
    r = Reveal.from_wire(reveal.payload)
    buyer, seller = (r.part, d.part) if conditions.maker_is_seller else (d.part, r.part)
    a, a2 = drawn.arbiter, drawn.runner_up
    backup = t.escrow_kind == KIND_BACKUP
    key_a2 = arbiter_public(a2.point, a2.chain_code, drawn.seed, a2.outpoint, network)
    return Contract(
        network=network,
        trade_id=take.id,
        offer_hash=t.offer_hash,
        reveal_id=reveal.id,
        seed=drawn.seed,
        maker=take.recipient,
        taker=take.sender,
        maker_is_seller=conditions.maker_is_seller,
        amount_sat=t.amount_sat,
        currency=conditions.currency,
        fiat_minor=t.fiat_minor,
        method=t.method,
        dep_b=conditions.dep_b,
        dep_s=conditions.dep_s,
        escrow_kind=t.escrow_kind,
        key_b=buyer.escrow_key,
        key_s=seller.escrow_key,
        key_a=arbiter_public(a.point, a.chain_code, drawn.seed, a.outpoint, network),
        key_b2=buyer.backup_key,
        key_s2=seller.backup_key,
        key_a2=key_a2 if backup else b"",
        n=backup_blocks(conditions.period_s) if backup else 0,
        arbiter=a.node_id,
        runner_up=a2.node_id,
        bond_a=a.outpoint,
        bond_a2=a2.outpoint,
        fee_a=a.fee(t.amount_sat),
        fee_a2=a2.fee(t.amount_sat),
        script_b=buyer.script,
        script_s=seller.script,
        rate=d.rate,
        anchor_h=t.anchor_h,
        fund_by=t.anchor_h + FUND_WITHIN,
        depth=depth_for(t.amount_sat),
        period_s=conditions.period_s,
        reply_s=REPLY_S,
        verdict_s=VERDICT_S,
        account_hash_b=buyer.account_hash,
        account_hash_s=seller.account_hash,
    )
