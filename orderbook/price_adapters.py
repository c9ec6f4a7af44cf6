"""The price sources that can be named: what each is asked, and how it answers. Pure.

Only interfaces that their owners document for everybody, without a key; each class names
the page. `live = False`: its answers were read in that documentation and never yet from
the server itself, so `market price` and the pages mark it "never run live". Numbers reach
`read_price` as text, int or Decimal, never as a float.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, Protocol

from orderbook.prices import Said, read_json, read_price
from p2pnode.base.errors import InvalidRecord

MAX_TIME: Final = 2**40


class Adapter(Protocol):
    """One interface. A question is a path and the currencies that its answer covers."""

    name: str
    base: str  # https://HOST
    docs: str  # where its owner documents it
    live: bool  # whether it has been seen to work against the server itself

    def questions(self, wanted: Collection[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """Return what to ask; nothing for currencies that it is known not to have."""
        ...

    def pick(self, found: Any, currency: str) -> tuple[object, object]:
        """Return (price, unix time or 0) as the JSON has them, or (None, 0) without one.

        Raises InvalidRecord for an answer of another form.
        """
        ...


def read_answer(adapter: Adapter, raw: bytes, currencies: Sequence[str]) -> Said:
    """Read an answer's body; a currency that is wrong in it spoils no other.

    Raises InvalidRecord for what is no answer at all.
    """
    found = read_json(raw)
    prices, faults = {}, {}
    for currency in currencies:
        try:
            value, at = adapter.pick(found, currency)
            if value is None:
                continue
            prices[currency] = read_price(currency, value, currency), _time(at)
        except InvalidRecord as error:
            faults[currency] = str(error)
    return Said(prices, faults)


class Kraken:
    """The last trade (https://docs.kraken.com/api-reference/market-data/get-ticker-information).

    GET /0/public/Ticker?pair=XXBTZEUR
    {"error": [], "result": {"XXBTZEUR": {"c": ["61240.10000", "0.0021"], …}}}
    """

    name, base, live = "kraken", "https://api.kraken.com", False
    docs = "https://docs.kraken.com/api-reference/market-data/get-ticker-information"
    _PAIRS: Final = {
        "USD": "XXBTZUSD",
        "EUR": "XXBTZEUR",
        "GBP": "XXBTZGBP",
        "CAD": "XXBTZCAD",
        "JPY": "XXBTZJPY",
        "CHF": "XBTCHF",
        "AUD": "XBTAUD",
    }

    def questions(self, wanted: Collection[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """Ask for every pair at once."""
        known = [c for c in self._PAIRS if c in wanted]
        if known:
            pairs = ",".join(self._PAIRS[c] for c in known)
            yield f"/0/public/Ticker?pair={pairs}", known

    def pick(self, found: Any, currency: str) -> tuple[object, object]:
        """Return the first of `c`, the last trade closed."""
        errors = _in(found, "error")
        if errors:
            raise InvalidRecord("error", repr(errors)[:80])
        pair = _object("result", _in(found, "result")).get(self._PAIRS[currency])
        if pair is None:
            return None, 0
        last = _in(pair, "c")
        if not isinstance(last, list) or not last:
            raise InvalidRecord("c", "is not a list that begins with a price")
        return last[0], 0


class Coinbase:
    """Its exchange rates (https://docs.cdp.coinbase.com/coinbase-app/track-apis/exchange-rates).

    GET /v2/exchange-rates?currency=BTC
    {"data": {"currency": "BTC", "rates": {"EUR": "61240.10", …}}}
    """

    name, base, live = "coinbase", "https://api.coinbase.com", False
    docs = "https://docs.cdp.coinbase.com/coinbase-app/track-apis/exchange-rates"

    def questions(self, wanted: Collection[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """Ask for all rates: the question does not tell which are wanted."""
        yield "/v2/exchange-rates?currency=BTC", sorted(wanted)

    def pick(self, found: Any, currency: str) -> tuple[object, object]:
        """Return the rate of one BTC."""
        data = _in(found, "data")
        if _in(data, "currency") != "BTC":
            raise InvalidRecord("currency", "is not BTC")
        return _object("rates", _in(data, "rates")).get(currency), 0


class Bitstamp:
    """The last trade (https://www.bitstamp.net/api/).

    GET /api/v2/ticker/btceur/
    {"last": "61240.1", "timestamp": "1788000000", …}
    """

    name, base, live = "bitstamp", "https://www.bitstamp.net", False
    docs = "https://www.bitstamp.net/api/"
    _KNOWN: Final = ("USD", "EUR", "GBP")

    def questions(self, wanted: Collection[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """Ask for each pair by itself."""
        for currency in self._KNOWN:
            if currency in wanted:
                yield f"/api/v2/ticker/btc{currency.lower()}/", (currency,)

    def pick(self, found: Any, currency: str) -> tuple[object, object]:
        """Return `last` at `timestamp`."""
        return _in(found, "last"), _in(found, "timestamp")


class CoinGecko:
    """An average over exchanges (https://docs.coingecko.com/reference/simple-price).

    GET /api/v3/simple/price?ids=bitcoin&vs_currencies=eur&include_last_updated_at=true
    {"bitcoin": {"eur": 61240.1, "last_updated_at": 1788000000}}
    """

    name, base, live = "coingecko", "https://api.coingecko.com", False
    docs = "https://docs.coingecko.com/reference/simple-price"

    def questions(self, wanted: Collection[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """Ask for every currency at once."""
        against = ",".join(sorted(c.lower() for c in wanted))
        query = f"ids=bitcoin&vs_currencies={against}&include_last_updated_at=true"
        yield f"/api/v3/simple/price?{query}", sorted(wanted)

    def pick(self, found: Any, currency: str) -> tuple[object, object]:
        """Return the price at `last_updated_at`."""
        bitcoin = _object("bitcoin", _in(found, "bitcoin"))
        value = bitcoin.get(currency.lower())
        return value, _in(bitcoin, "last_updated_at") if value is not None else 0


class Mempool:
    """An average over exchanges (https://mempool.space/docs/api/rest#get-price).

    GET /api/v1/prices
    {"time": 1788000000, "USD": 66010, "EUR": 61240, …}      -1: it has none
    """

    name, base, live = "mempool", "https://mempool.space", False
    docs = "https://mempool.space/docs/api/rest#get-price"
    _KNOWN: Final = ("USD", "EUR", "GBP", "CAD", "CHF", "AUD", "JPY")

    def questions(self, wanted: Collection[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """Ask for all prices: the question does not tell which are wanted."""
        if known := [c for c in self._KNOWN if c in wanted]:
            yield "/api/v1/prices", known

    def pick(self, found: Any, currency: str) -> tuple[object, object]:
        """Return the price at `time`."""
        value = _object("answer", found).get(currency)
        return (None, 0) if value in (None, -1) else (value, _in(found, "time"))


class Blockchain:
    """An average of trades (https://www.blockchain.com/explorer/api/exchange_rates_api).

    GET /ticker
    {"EUR": {"15m": 61240.1, "last": 61240.1, "buy": 61240.1, "sell": …, "symbol": "EUR"}, …}
    """

    name, base, live = "blockchain", "https://blockchain.info", False
    docs = "https://www.blockchain.com/explorer/api/exchange_rates_api"

    def questions(self, wanted: Collection[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """Ask for all prices: the question does not tell which are wanted."""
        yield "/ticker", sorted(wanted)

    def pick(self, found: Any, currency: str) -> tuple[object, object]:
        """Return `last`."""
        entry = _object("answer", found).get(currency)
        return (None, 0) if entry is None else (_in(entry, "last"), 0)


_ALL: Final[tuple[Adapter, ...]] = (
    Kraken(),
    Coinbase(),
    Bitstamp(),
    CoinGecko(),
    Mempool(),
    Blockchain(),
)
ADAPTERS: Final[dict[str, Adapter]] = {adapter.name: adapter for adapter in _ALL}


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRecord(name, "is not an object")
    return value


def _in(found: Any, name: str) -> Any:
    """Return a member that the documentation promises. Raises InvalidRecord."""
    if not isinstance(found, dict) or name not in found:
        raise InvalidRecord(name, "is missing from the answer")
    return found[name]


def _time(value: object) -> int:
    """Read unix seconds. Raises InvalidRecord."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 12:
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_TIME:
        raise InvalidRecord("time", "is not in unix seconds")
    return value
