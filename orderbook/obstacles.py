"""Why this user could not take an offer, or should not: a code and a sentence for each reason.

Pure: what he has is a `Taker`. The sentence names the field and what to do about it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from orderbook import limits
from orderbook.methods import METHODS
from orderbook.offer import ESCROW_KINDS, Offer, Side
from p2pnode.base.history import NONE, History
from p2pnode.base.units import decimal

ABSURD_BP: Final = 2000  # from the reference, or from what the other makers ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Taker:
    """What decides which offers a user can take.

    `methods` are those of his accounts. `countries` and `languages` are empty if he has not
    said any. `balance_sat` is None while the wallet cannot be read.
    """

    node_id: bytes
    methods: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    balance_sat: int | None = None
    history: History = NONE
    blocked: frozenset[bytes] = frozenset()
    escrow_kinds: frozenset[str] = frozenset(ESCROW_KINDS)
    caps: Mapping[str, int] = field(default_factory=dict)  # lower ones of this node's operator
    now: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What an offer's price is compared with: minor units per BTC x 10^4, 0 for unknown.

    `typical` is the median of what other makers ask.
    """

    reference: int = 0
    typical: int = 0


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason. `code` is for programs, `text` one sentence for people."""

    code: str
    text: str


def obstacles(
    offer: Offer, taker: Taker, market: Market, amount_sat: int = 0
) -> tuple[Obstacle, ...]:
    """Return every reason against taking an offer, for `amount_sat` or else for its least."""
    if offer.maker == taker.node_id:
        return (Obstacle("own", "maker: it is your own: p2pnode offer mine"),)
    amount = amount_sat or offer.min_sat
    found = (
        *_maker(offer, taker),
        *_methods(offer, taker, amount),
        *_places(offer, taker),
        *_money(offer, taker, amount),
        *_history(offer, taker),
        *_price(offer, market),
        *_escrow(offer, taker),
    )
    return tuple(Obstacle(code, text) for code, text in found)


Reasons = Iterator[tuple[str, str]]


def _maker(offer: Offer, taker: Taker) -> Reasons:
    if offer.maker in taker.blocked:
        name = offer.maker.hex()[:8]
        yield "blocked", f"maker: you have blocked {name}…: p2pnode offer unblock {name}"


def _methods(offer: Offer, taker: Taker, amount: int) -> Reasons:
    """Look for a method that he has an account of, that carries the currency and the amount."""
    have = [name for name in offer.methods if name in taker.methods]
    if not have:
        first, all_ = offer.methods[0], " or ".join(offer.methods)
        yield "method", f"methods: you have no account of {all_}: p2pnode account form {first}"
        have = list(offer.methods)
    carry = [name for name in have if METHODS[name].takes(offer.currency)]
    if not carry:
        yield (
            "currency",
            f"currency: {' or '.join(have)} does not carry {offer.currency}; take another offer",
        )
        carry = have
    reach = [name for name in carry if _reaches(name, taker.countries)]
    if not reach:
        yield (
            "country",
            f"methods: {' or '.join(carry)} is not for {_some(sorted(taker.countries))} "
            "(`countries` in config.toml)",
        )
    most = max(limits.cap_sat(name, taker.caps) for name in carry)
    if most < amount:
        yield (
            "limit",
            f"amount: {' or '.join(carry)} carries at most {_btc(most)} BTC a trade; "
            "take another offer",
        )
    elif offer.side is Side.SELL:  # the taker buys
        most = max(limits.most_sat(name, taker.history, taker.now, taker.caps) for name in carry)
        if most < amount:
            yield (
                "limit",
                f"amount: with the history that you can prove you buy at most {_btc(most)} BTC "
                f"by {' or '.join(carry)}; begin with smaller trades",
            )


def _reaches(method: str, countries: frozenset[str]) -> bool:
    return not countries or any(METHODS[method].reaches(country) for country in countries)


def _places(offer: Offer, taker: Taker) -> Reasons:
    said = (
        ("country", "countries", offer.countries, taker.countries),
        ("language", "languages", offer.languages, taker.languages),
    )
    for code, name, theirs, ours in said:
        if theirs and ours and ours.isdisjoint(theirs):
            yield (
                code,
                f"{name}: the offer is for {_some(theirs)}, not for {_some(sorted(ours))} "
                f"(`{name}` in config.toml)",
            )


def _money(offer: Offer, taker: Taker, amount: int) -> Reasons:
    """Compare the wallet with what the taker locks: what he sells, and his deposit."""
    if taker.balance_sat is None:
        return
    for_buyer, for_seller = offer.deposits(amount)
    sells = offer.side is Side.BUY
    deposit = for_seller if sells else for_buyer
    need, have = deposit + (amount if sells else 0), taker.balance_sat
    if have >= need:
        return
    remedy = f"your wallet has {_btc(have)}: p2pnode wallet address"
    if sells and have < amount:
        yield "amount", f"amount: you would sell {_btc(amount)} BTC; {remedy}"
    else:
        yield (
            "deposit",
            f"deposit: you would lock {_btc(need)} BTC, {_btc(deposit)} of it as deposit; {remedy}",
        )


def _history(offer: Offer, taker: Taker) -> Reasons:
    past = taker.history
    trades, days = past.trades, past.days(taker.now)
    if trades < offer.peer_trades:
        yield (
            "history",
            f"peer_trades: the maker asks for {_count(offer.peer_trades, 'proven trade')}, you "
            f"have {trades or 'none'}; each trade that ends well is one",
        )
    if days < offer.peer_days:
        yield (
            "history",
            f"peer_days: the maker asks for a first trade {_count(offer.peer_days, 'day')} ago, "
            + (f"yours was {_count(days, 'day')} ago" if past.first_at else "you have none")
            + "; take offers that ask for less",
        )


def _price(offer: Offer, market: Market) -> Reasons:
    price = offer.price_at(market.reference)
    if not price:
        yield (
            "unpriced",
            f"price: is a margin on a reference price of {offer.currency} that this node does not "
            "have: name a source (`prices` in config.toml)",
        )
        return
    against, what = market.reference, "the reference price"
    if not against:
        against, what = market.typical, "what other makers ask"
    if is_absurd(price, against):
        yield (
            "absurd",
            f"price: is {distance(price, against)} {what}; more than {ABSURD_BP // 100} % is "
            "rarely meant, ask the maker first",
        )


def is_absurd(price: int, against: int) -> bool:
    """Tell whether a price is further off than is rarely meant; never with nothing to compare."""
    return bool(against) and abs(price - against) * 10_000 > ABSURD_BP * against


def distance(price: int, against: int) -> str:
    """Write how far a price is off: 42.00 % above."""
    off = abs(price - against) * 10_000 // against
    return f"{decimal(off, 2)} % {'above' if price >= against else 'below'}"


def _escrow(offer: Offer, taker: Taker) -> Reasons:
    if taker.escrow_kinds.isdisjoint(offer.escrow_kinds):
        yield (
            "escrow",
            f"escrow_kinds: this node makes none of {', '.join(offer.escrow_kinds)}; "
            "take another offer",
        )


def _some(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _btc(sat: int) -> str:
    text = decimal(sat, 8)
    return text[:-4] + text[-4:].rstrip("0")
