"""The order book's side of a trade: what our own offers allow a peer who takes them.

The only place that turns an `Offer` into trade `Terms`. The taker's side is `app.deal`.
"""

from dataclasses import replace
from typing import Final

from escrow.bargain import Policy
from escrow.needs import Disclosure
from escrow.terms import Terms
from orderbook import limits
from orderbook.accounts import Account, check_disclosure
from orderbook.currencies import exponent
from orderbook.methods import METHODS
from orderbook.offer import Offer, Side
from orderbook.shell_maker import Maker
from orderbook.store_accounts import AccountStore
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound
from p2pnode.base.history import History
from p2pnode.base.networks import Network

SLACK_BP: Final = 100  # between two views of one market


def terms_of(offer: Offer, method: str, price: int) -> Terms:
    """Return what the trade needs of an offer for one of its methods, at the price it has now.

    Raises InvalidRecord for a method that it does not name, and for no price (0): it follows
    a reference that is not known.
    """
    if method not in offer.methods:
        raise InvalidRecord("method", f"is none of {', '.join(offer.methods)}")
    if not price:
        raise InvalidRecord("price", "this node knows no reference now")
    return Terms(
        offer_hash=offer.hash,
        maker=offer.maker,
        maker_is_seller=int(offer.side is Side.SELL),
        currency=offer.currency,
        exponent=exponent(offer.currency),
        min_sat=offer.min_sat,
        max_sat=offer.max_sat,
        price=price,
        slack_bp=SLACK_BP if offer.floating else 0,
        method=method,
        period_s=METHODS[method].period_s,
        dep_b_bp=offer.dep_b_bp,
        dep_s_bp=offer.dep_s_bp,
        escrow_kinds=offer.escrow_kinds,
    )


def narrowed(terms: Terms, most_sat: int) -> Terms:
    """Return the terms with what the buyer's history allows by their method at the most.

    Raises InvalidRecord where that is less than the offer's least.
    """
    if most_sat < terms.min_sat:
        raise InvalidRecord(
            "amount_sat",
            f"is at most {most_sat} by {terms.method} for what is proven of the buyer, and this "
            f"offer is for {terms.min_sat} at the least",
        )
    return replace(terms, max_sat=min(most_sat, terms.max_sat))


def check_history(offer: Offer, peer: History, now: int) -> None:
    """Raise InvalidRecord for a counterparty that has not proven what the offer asks."""
    for field, proven, asked in (
        ("peer_trades", peer.trades, offer.peer_trades),
        ("peer_days", peer.days(now), offer.peer_days),
    ):
        if proven < asked:
            raise InvalidRecord(field, f"is {proven} as far as is proven; {asked} are asked for")


def disclosure(account: Account, network: Network, salt: bytes) -> Disclosure:
    """Return an account under a fresh salt, as contract and ACCOUNT message carry it."""
    return Disclosure(wire.pack(account.disclose(salt)), account.account_hash(network, salt))


class OfferDesk:
    """The order book's side of a trade."""

    def __init__(self, maker: Maker, accounts: AccountStore, network: Network) -> None:
        self._maker, self._accounts, self._network = maker, accounts, network

    def terms(self, offer_hash: bytes, method: str, peer: bytes, *, price: int = 0) -> Terms | None:
        """Return our own offer's terms to a peer while it is current and free.

        `price` stands in for that of a floating offer while no reference is known.

        Raises InvalidRecord, with our own value, for what it does not allow this peer.
        """
        maker = self._maker
        try:
            offer, own = maker.own_version(offer_hash)
        except NotFound:
            return None
        if not own.enabled or offer.withdrawn or maker.crossed(own):
            return None
        theirs, now = maker.histories.history(peer), maker.clock.now()
        check_history(offer, theirs, now)
        reference = maker.references.reference(offer.currency)
        terms = terms_of(offer, method, offer.price_at(reference) or price)
        sells = offer.side is Side.SELL
        buyer = theirs if sells else maker.histories.history(maker.node_id)
        terms = narrowed(terms, limits.most_sat(method, buyer, now, maker.caps))
        try:
            self._accounts.get(own.accounts[method])
        except NotFound:
            raise InvalidRecord("method", f"{method} cannot be used now") from None
        return terms

    def offer_id(self, offer_hash: bytes) -> bytes:
        """Return which own offer a version is of; empty for none."""
        try:
            return self._maker.own_version(offer_hash)[0].offer_id
        except NotFound:
            return b""

    def is_open(self, offer_id: bytes) -> bool:
        """Tell whether an own offer can be taken now."""
        try:
            return self._maker.own(offer_id).enabled
        except NotFound:
            return False

    def policy(self, offer_id: bytes) -> Policy:
        """Return how this node answers proposals for an own offer."""
        own = self._maker.own(offer_id).answers
        return Policy(accept_bp=own.accept_bp, counter_bp=own.counter_bp, otherwise=own.otherwise)

    def disclosure(self, offer_hash: bytes, method: str, salt: bytes) -> Disclosure:
        """Return the account that our offer has for a method, under a fresh salt."""
        _, own = self._maker.own_version(offer_hash)
        return disclosure(self._accounts.get(own.accounts[method]), self._network, salt)

    def check(self, raw: bytes, account_hash: bytes, method: str) -> None:
        """Check a peer's disclosure against the contract. Raises InvalidRecord."""
        array = wire.unpack("disclosure", raw, limit=4096)
        if check_disclosure(array, account_hash, self._network)[0] != method:
            raise InvalidRecord("disclosure", f"is not an account of {method}")

    def reserve(self, offer_hash: bytes, trade_id: bytes) -> None:
        """Take our offer out of the book. Raises LocalFault if another trade has it."""
        try:
            offer, _ = self._maker.own_version(offer_hash)
        except NotFound:
            raise LocalFault("the offer has expired meanwhile", field="offer_hash") from None
        self._maker.reserve(offer.offer_id, trade_id)

    def release(self, offer_hash: bytes, trade_id: bytes) -> None:
        """Put it back if this trade had reserved it."""
        self._maker.release(trade_id)


def details(raw: bytes, account_hash: bytes, network: Network) -> str:
    """Return a disclosed account's details for people. Raises InvalidRecord."""
    array = wire.unpack("disclosure", raw, limit=4096)
    return check_disclosure(array, account_hash, network)[1]
