"""What the demo's order book holds: a plan of offers, the same for the same number and seed.

Ten currencies, sixteen payment methods, both sides, fixed prices and margins round one
reference; every ODD_EVERY-th offer is odd on purpose, so that the marks of a list can be seen.
Nothing here talks to anybody (docs/demo.md, "An order book").
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from p2pnode.app.demo.stage import ARBITERS, MAKER, TAKER
from p2pnode.base.units import parse_decimal

MAX_OFFERS: Final = 300  # five makers with at most 64 own offers each
SEED: Final = 2009
MAKERS: Final = (MAKER, ARBITERS[0], TAKER, ARBITERS[1], ARBITERS[2])
CUSTOM_ACCOUNT: Final = "bank"  # what the demo's traders call their CUSTOM account
TAKER_LACKS: Final = ("PIX", "UPI")  # so that he sees offers that he has no account for
ODD_EVERY: Final = 12
ODD_FIRST: Final = 5


@dataclass(frozen=True, slots=True)
class Market:
    """One currency: `reference` in units per BTC, `round_to` decimals of a fixed price."""

    reference: str
    exponent: int
    methods: tuple[tuple[str, ...], ...]
    countries: tuple[tuple[str, ...], ...]
    languages: tuple[str, ...]
    round_to: int = 0

    @property
    def price(self) -> int:
        """Return the reference in minor units per BTC x 10^4."""
        return parse_decimal("reference", self.reference, self.exponent + 4)


MARKETS: Final[Mapping[str, Market]] = MappingProxyType(
    {
        "EUR": Market(
            "61240.00",
            2,
            (
                ("SEPA",),
                ("SEPA", "SEPA_INSTANT"),
                ("REVOLUT",),
                ("FACE_TO_FACE",),
                ("CASH_BY_MAIL",),
                ("CUSTOM",),
                ("REVOLUT", "WISE"),
            ),
            ((), ("AT", "DE"), ("ES", "PT"), ("FR",)),
            ("de", "en", "es", "fr"),
        ),
        "USD": Market(
            "66010.00",
            2,
            (("ZELLE",), ("STRIKE",), ("STRIKE", "ZELLE"), ("CASH_BY_MAIL",), ("REVOLUT",)),
            ((), ("US",)),
            ("en", "es"),
        ),
        "GBP": Market(
            "52390.00",
            2,
            (("FASTER_PAYMENTS",), ("FASTER_PAYMENTS", "REVOLUT"), ("WISE",)),
            ((), ("GB",)),
            ("en",),
        ),
        "JPY": Market(
            "9893000", 0, (("JAPAN_BANK",), ("FACE_TO_FACE",)), ((), ("JP",)), ("en", "ja"), -3
        ),
        "CHF": Market(
            "58870.00", 2, (("REVOLUT",), ("FACE_TO_FACE",)), ((), ("CH", "LI")), ("de", "fr")
        ),
        "BRL": Market("357700.00", 2, (("PIX",),), ((), ("BR",)), ("pt",), -1),
        "INR": Market("5571000.00", 2, (("UPI",),), ((), ("IN",)), ("en", "hi"), -2),
        "AUD": Market("101300.00", 2, (("PAYID",), ("PAYID", "WISE")), ((), ("AU",)), ("en",)),
        "SEK": Market("688400.00", 2, (("SWISH",),), ((), ("SE",)), ("en", "sv"), -1),
        "XMR": Market("182.50", 8, (("MONERO",),), ((),), ("en",), 2),
    }
)
# Which currency every twentieth offer has: the large markets often, each one early.
_TURNS: Final = (
    *("EUR", "EUR", "USD", "USD", "GBP", "EUR", "JPY", "CHF", "EUR", "USD"),
    *("BRL", "EUR", "SEK", "AUD", "INR", "EUR", "XMR", "GBP", "USD", "JPY"),
)
_TERMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "de": (
            "Beispiel: Überweisung am selben Werktag, bitte ohne Verwendungszweck.",
            "Beispiel: Bargeld nur am Bahnhof, werktags ab 17 Uhr.",
        ),
        "en": (
            "Example: I answer within an hour in the daytime, later at night.",
            "Example: no third-party payments; the names must match.",
        ),
        "es": ("Ejemplo: respondo en menos de una hora entre semana.",),
        "fr": ("Exemple : virement le jour même, réponse rapide le soir.",),
        "hi": ("उदाहरण: भुगतान के बाद संदेश भेजें।",),
        "ja": ("例：平日は一時間以内に返信します。",),
        "pt": ("Exemplo: respondo em minutos; o nome deve ser o mesmo.",),
        "sv": ("Exempel: betala inom en timme, jag svarar snabbt.",),
    }
)
LOOKS_ODD: Final = "terms in two scripts"
LOOKS_LATIN: Final = "Example: \u0420ay\u0420al friends and family only."  # with Cyrillic letters
UNSEEN: Final = "Example: pay\u200b the fee first, then the amount."  # with a zero-width space


@dataclass(frozen=True, slots=True)
class Planned:
    """An offer to publish: by whom, and what POST /v1/offers takes besides the accounts.

    `odd` says what is wrong with it on purpose, and is empty for an ordinary one.
    """

    maker: str
    methods: tuple[str, ...]
    body: Mapping[str, Any]
    odd: str = ""

    @property
    def accounts(self) -> list[str]:
        """Return the names of the maker's accounts for it."""
        return [account_name(method) for method in self.methods]


def account_name(method: str) -> str:
    """Return what every node of the demo calls its account of this method."""
    return CUSTOM_ACCOUNT if method == "CUSTOM" else method.lower()


def plan(count: int, seed: int = SEED) -> tuple[Planned, ...]:
    """Return `count` offers, at most MAX_OFFERS; the first is one that the taker can take."""
    rng = random.Random(seed)  # noqa: S311 - invented offers, the same each time
    made, sides = [], dict.fromkeys(MARKETS, 0)
    for i in range(count):
        currency = _TURNS[i % len(_TURNS)]
        maker = MAKERS[(i + i // len(_TURNS)) % len(MAKERS)]
        side = ("sell", "buy")[sides[currency] % 2]
        sides[currency] += 1
        offer = _ordinary(rng, i, maker, side, currency)
        if i % ODD_EVERY == ODD_FIRST:
            offer = _odd(i // ODD_EVERY, offer)
        made.append(offer)
    return tuple(made)


def prices() -> dict[str, str]:
    """Return the reference of each market, as the nodes' file of prices holds it."""
    return {currency: market.reference for currency, market in MARKETS.items()}


def wanted(offers: tuple[Planned, ...]) -> dict[str, list[str]]:
    """Return the methods that each node needs accounts of; the taker has almost all."""
    needs: dict[str, set[str]] = {}
    for offer in offers:
        needs.setdefault(offer.maker, set()).update(offer.methods)
        needs.setdefault(TAKER, set()).update(set(offer.methods).difference(TAKER_LACKS))
    return {name: sorted(methods) for name, methods in needs.items()}


def _ordinary(rng: random.Random, i: int, maker: str, side: str, currency: str) -> Planned:
    market = MARKETS[currency]
    methods = market.methods[0] if i == 0 else rng.choice(market.methods)
    if maker == TAKER and set(methods) & set(TAKER_LACKS):
        maker = ARBITERS[i % len(ARBITERS)]
    least = rng.choice((200_000, 200_000, 300_000, 500_000)) if i else 200_000
    most = least * rng.choice((2, 3, 5, 10))
    sign = 1 if side == "sell" else -1
    body: dict[str, Any] = {"side": side, "currency": currency, "min_sat": least, "max_sat": most}
    body |= _price(market, sign * rng.randrange(15, 600, 5), floating=i % 3 == 1)
    for_buyer, for_seller = rng.choice(((1500, 1500), (1500, 1500), (1000, 1000), (2500, 2000)))
    if most <= 1_000_000 and rng.random() < 0.2:
        for_buyer = 0
    body |= {"deposit_buyer_bp": for_buyer, "deposit_seller_bp": for_seller}
    language = rng.choice(market.languages)
    if rng.random() < 0.7:
        body["languages"] = sorted({language, "en"} if rng.random() < 0.5 else {language})
        body["terms"] = rng.choice(_TERMS[language])
    countries = rng.choice(market.countries)
    if countries:
        body["countries"] = list(countries)
    if i and rng.random() < 0.1:
        body |= {"peer_trades": rng.choice((1, 3)), "peer_days": rng.choice((0, 30))}
    return Planned(maker, methods, body)


def _price(market: Market, margin_bp: int, *, floating: bool) -> dict[str, int]:
    """Return a margin, or the fixed price that it makes of the reference, rounded."""
    if floating:
        return {"margin_bp": margin_bp}
    unit = 10 ** (market.exponent + 4 - market.round_to)
    return {"price": market.price * (10_000 + margin_bp) // (10_000 * unit) * unit}


def _odd(number: int, offer: Planned) -> Planned:
    """Return an offer with something wrong with it, of the kinds in turn."""
    what, change = list(_odds(offer))[number % 5]
    body = dict(offer.body)
    if "price" in change or "margin_bp" in change:
        body.pop("price", None), body.pop("margin_bp", None)
    return Planned(offer.maker, offer.methods, body | change, what)


def _odds(offer: Planned) -> Iterator[tuple[str, dict[str, Any]]]:
    market = MARKETS[offer.body["currency"]]
    yield "absurd price", _price(market, 4200, floating=False)
    yield LOOKS_ODD, {"terms": LOOKS_LATIN}
    yield "impossible history", {"peer_trades": 60, "peer_days": 3600}
    yield "absurd margin", {"margin_bp": 5000 if offer.body["side"] == "sell" else -5000}
    yield "terms that hide something", {"terms": UNSEEN}
