"""What a verified receipt says, in short: what is kept of it and what its weight is worked out of.

It names the blocks in which it was seen, so whether it still holds is two look-ups in our own
headers. Pure; the receipt itself: `escrow.receipt`.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

from escrow.bond import Eyes
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord


@dataclass(frozen=True, slots=True)
class Proven:
    """What one verified receipt says. Times by the chain's clock, amounts in satoshi.

    It holds as long as both blocks are our chain's (`stands`). `credits` are those whom the
    trade speaks for.
    """

    contract_hash: bytes
    trade_id: bytes
    maker: bytes
    taker: bytes
    maker_is_seller: int
    amount_sat: int
    currency: str
    fiat_minor: int
    method: str
    outcome: str  # released or ruled
    buyer_credit: int
    seller_credit: int
    funding_txid: bytes
    payout_txid: bytes
    funded_at: int
    funding_height: int
    funding_block: bytes
    payout_height: int
    payout_block: bytes

    @property
    def parties(self) -> tuple[bytes, bytes]:
        """Both traders."""
        return self.maker, self.taker

    @property
    def seller(self) -> bytes:
        """Who gave bitcoin."""
        return self.maker if self.maker_is_seller else self.taker

    def other(self, node_id: bytes) -> bytes:
        """Return the counterparty of one of the two."""
        return self.taker if node_id == self.maker else self.maker

    def credits(self, node_id: bytes) -> bool:
        """Tell whether the trade speaks for this one of the two."""
        return bool(self.seller_credit if node_id == self.seller else self.buyer_credit)

    def stands(self, eyes: Eyes) -> bool:
        """Tell whether both its blocks are still our chain's."""
        return (
            eyes.block_hash(self.funding_height) == self.funding_block
            and eyes.block_hash(self.payout_height) == self.payout_block
        )

    def array(self) -> tuple[Any, ...]:
        """Return the canonical array, to be kept."""
        return tuple(getattr(self, f.name) for f in fields(self))

    @classmethod
    def from_array(cls, value: object) -> Self:
        """Read what was kept. Raises InvalidRecord if it is damaged."""
        names = fields(cls)
        found = wire.fields("proven", value, len(names))
        for f, item in zip(names, found, strict=True):
            if type(item) is not f.type:
                raise InvalidRecord(f.name, "is of another type")
        return cls(*found)
