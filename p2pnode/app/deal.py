"""A taker's side of somebody's offer: his account, his limits, and the price as he sees it."""

from escrow.terms import Terms
from orderbook import limits
from orderbook.accounts import Account
from orderbook.methods import METHODS
from orderbook.offer import Offer, Side
from orderbook.shell_book import Book
from orderbook.store_accounts import AccountStore
from p2pnode.app import desk
from p2pnode.app.exchange import Exchange
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound
from p2pnode.base.units import MAX_FIAT_MINOR, decimal, fiat_for, price_text


class Deals:
    """What our user may do with an offer, before anything is sent."""

    def __init__(self, book: Book, accounts: AccountStore, exchange: Exchange) -> None:
        self._book, self._accounts, self._exchange = book, accounts, exchange

    def reference(self, currency: str) -> int:
        """Return our reference price of a market, 0 without one."""
        return self._book.maker.references.reference(currency)

    def account(self, offer: Offer, name: str, method: str) -> Account:
        """Return our account for an offer: the named one, or the only one that fits.

        Raises NotFound for none, LocalFault for several or for another method's.
        """
        if name:
            account = self._accounts.named(name)
            if account.method not in offer.methods or method not in ("", account.method):
                asked = method or ", ".join(offer.methods)
                raise LocalFault(
                    f"account: {account.name!r} is one of {account.method}, not of {asked}",
                    field="account",
                )
            return account
        if method and method not in offer.methods:
            raise InvalidRecord("method", f"is none of {', '.join(offer.methods)}")
        wanted = (method,) if method else offer.methods
        found = [account for account in self._accounts.all() if account.method in wanted]
        what = " or ".join(wanted)
        if not found:
            raise NotFound(
                f"account: you have none of {what}; add one with `p2pnode account add`",
                field="account",
            )
        if len(found) > 1:
            names = ", ".join(repr(account.name) for account in found[:8])
            raise LocalFault(f"account: {names} are of {what}: name one", field="account")
        return found[0]

    @staticmethod
    def judged(offer: Offer, method: str) -> bool:
        """Tell whether a maker judges his taker by receipts: they name third people.

        He does where his offer asks for a past, and where its taker buys by a method whose
        payments can be taken back.
        """
        bought = offer.side is Side.SELL and METHODS[method].chargeback
        return bool(offer.peer_trades or offer.peer_days or bought)

    async def introduce(self, offer: Offer, method: str) -> None:
        """Exchange receipts with a maker who judges us by them before a TAKE does it."""
        if self.judged(offer, method):
            await self._exchange.opening.introduce(offer.maker, offer.hash)

    async def terms(self, offer: Offer, method: str, amount_sat: int) -> Terms:
        """Return an offer's terms to us, a floating price by our own reference.

        Raises LocalFault where we know no reference (nobody takes an offer blind), and where
        the buyer's history, ours or the maker's, allows less than the amount.
        """
        if method not in offer.methods:
            raise InvalidRecord("method", f"is none of {', '.join(offer.methods)}")
        reference = self.reference(offer.currency)
        if offer.floating and not reference:
            raise LocalFault(
                f"price: it follows the market, and this node knows no reference price of "
                f"{offer.currency} now: see `p2pnode market price {offer.currency}`",
                field="price",
            )
        terms = desk.terms_of(offer, method, offer.price_at(reference))
        maker, now = self._book.maker, self._book.maker.clock.now()
        if offer.maker == maker.node_id:
            return terms
        sells = offer.side is Side.SELL
        buyer = maker.histories.history(maker.node_id if sells else offer.maker)
        most = limits.most_sat(method, buyer, now, maker.caps)
        if most < amount_sat and not sells:  # he may have more to show; we have agreed to nothing
            await self._exchange.opening.look(offer.maker, offer.hash)
            buyer = maker.histories.history(offer.maker)
            most = limits.most_sat(method, buyer, now, maker.caps)
        if most < amount_sat:
            whose = "you have" if sells else "the maker has"
            past = (
                f"{whose} {buyer.trades} proven trades, the first {buyer.days(now)} days ago"
                if buyer.trades
                else f"{whose} no proven trade"
            )
            raise LocalFault(
                f"amount_sat: {decimal(most, 8)} BTC is the most by {method} while {past}",
                field="amount_sat",
            )
        return terms

    @staticmethod
    def unchanged(offer: Offer, shown: str) -> None:
        """Raise LocalFault if an offer has other terms by now than those our user was shown.

        `shown` is `alike` of what he saw, in hex; empty: he was shown nothing. A refresh changes
        nothing of it; side, deposits or escrow kinds may change while the price stays.
        """
        if shown not in ("", offer.alike.hex()):
            raise LocalFault(
                "terms: the maker has changed the offer since you were shown it: look again",
                field="terms",
            )

    @staticmethod
    def confirmed(terms: Terms, amount_sat: int, shown: int) -> int:
        """Return the sum to take at: the one that our user was shown, if it still holds.

        `shown` 0: none was, and it is what the price makes of the amount. Raises LocalFault if
        the price has changed since beyond what the offer allows.
        """
        fiat = fiat_for(amount_sat, terms.price)
        if not shown:
            return fiat
        if 0 < shown <= MAX_FIAT_MINOR and abs(shown - fiat) <= fiat * terms.slack_bp // 10_000:
            return shown
        now = f"{price_text(terms.price, terms.exponent)} {terms.currency}"
        raise LocalFault(
            f"fiat_minor: the price is {now} per BTC now, and no more what you were shown: "
            "look again",
            field="fiat_minor",
        )
