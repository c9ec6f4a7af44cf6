"""What this node's user has, as the order book asks for it: accounts, places, coins, a past."""

from collections.abc import Callable, Collection

from orderbook.obstacles import Taker
from orderbook.places import check_country, check_language
from orderbook.shell_book import Book
from orderbook.store_accounts import AccountStore
from p2pnode.base.errors import InvalidRecord, Misconfigured, NodeError
from p2pnode.base.ports import Clock


class Takers:
    """Reads it anew for every question.

    `countries` and `languages` are the settings'; raises Misconfigured for one that is none.
    `balance` is the wallet's, which may raise NodeError.
    """

    def __init__(
        self,
        book: Book,
        accounts: AccountStore,
        clock: Clock,
        *,
        countries: Collection[str] = (),
        languages: Collection[str] = (),
        balance: Callable[[], int] | None = None,
    ) -> None:
        self._book, self._accounts, self._clock = book, accounts, clock
        try:
            self._countries = frozenset(check_country("countries", c) for c in countries)
            self._languages = frozenset(check_language("languages", c) for c in languages)
        except InvalidRecord as error:
            raise Misconfigured(str(error), field=error.field) from None
        self._balance = balance

    def taker(self) -> Taker:
        """Return what he has now. Raises StorageFault for an altered account."""
        maker = self._book.maker
        return Taker(
            node_id=maker.node_id,
            methods=frozenset(account.method for account in self._accounts.all()),
            countries=self._countries,
            languages=self._languages,
            balance_sat=self._spendable(),
            history=maker.histories.history(maker.node_id),
            blocked=frozenset(blocked.node_id for blocked in self._book.store.blocked()),
            caps=maker.caps,
            now=self._clock.now(),
        )

    def _spendable(self) -> int | None:
        if self._balance is None:
            return None
        try:
            return self._balance()
        except NodeError:
            return None  # not read from the chain yet
