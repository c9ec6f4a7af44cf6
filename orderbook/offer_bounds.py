"""The bounds of an offer's fields, looked at twice: slowly by `check`, quickly by `plain`.

`check` says which field breaks which bound. What arrives by the thousand is looked at by
`plain` first, which accepts nothing that `check` refuses.
"""

from collections.abc import Callable, Container
from itertools import pairwise
from operator import lt
from typing import Any, Final

from orderbook import work
from orderbook.currencies import EXPONENTS, check_currency
from orderbook.methods import METHODS, check_method
from orderbook.places import COUNTRIES, check_country, check_language, languages
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, UnknownName
from p2pnode.base.identity import check_node_id, verify, works
from p2pnode.base.networks import Network
from p2pnode.base.units import COIN, MAX_FIAT_MINOR, MAX_PRICE, MAX_SAT, PRICE_SCALE, fiat_for

VERSION: Final = 1
MAX_BYTES: Final = 2048
MAX_LIFE_S: Final = 1800  # an offer that expires later than this from now is refused
LIFE_S: Final = 1500  # what a maker asks for, so that his clock may be 5 min ahead
REFRESH_S: Final = 600
MAX_OFFER_SAT: Final = MAX_SAT // 4  # what a contract can hold
MAX_FREE_SAT: Final = 1_000_000  # of an offer that asks no deposit of its buyer
MAX_TERMS: Final = 500  # bytes
MIN_DEPOSIT_BP: Final = 1000
MAX_DEPOSIT_BP: Final = 5000
DEFAULT_DEPOSIT_BP: Final = 1500
MAX_MARGIN_BP: Final = 5000
MAX_SEQ: Final = 2**40
MAX_LIST: Final = 16
MAX_COUNTRIES: Final = 64
MAX_LANGUAGES: Final = 8
MAX_PEER_TRADES: Final = 64  # so many receipts are shown at once
MAX_PEER_DAYS: Final = 3650
MAX_SAID: Final = 2**31
ESCROW_KINDS: Final = ("wsh-2of3", "wsh-2of3-backup")
FIELDS: Final = (  # of the body, behind version and network
    *("offer_id", "maker", "slot", "seq", "side", "currency", "min_sat", "max_sat", "price"),
    *("margin_bp", "methods", "countries", "dep_b_bp", "dep_s_bp", "peer_trades", "peer_days"),
    *("escrow_kinds", "languages", "terms", "said_trades", "said_partners", "said_since"),
    *("expires_at", "work"),
)
_BYTES: Final = frozenset(("offer_id", "maker"))
_TEXT: Final = frozenset(("currency", "terms"))
_LISTS: Final = frozenset(("methods", "countries", "escrow_kinds", "languages"))
_TYPES: Final = tuple(
    bytes if name in _BYTES else str if name in _TEXT else tuple if name in _LISTS else int
    for name in FIELDS
)
_LEAST: Final = COIN * PRICE_SCALE // 2  # of price x amount, for one minor unit
_MOST: Final = (2 * MAX_FIAT_MINOR + 1) * COIN * PRICE_SCALE // 2 - 1
_KINDS: Final = frozenset(ESCROW_KINDS)


def plain(values: tuple[Any, ...], network: Network) -> bool:
    """Tell whether these are the fields of a good offer that has nothing unusual.

    False says nothing: text beyond printable ASCII, for one, is for `Offer` to judge.
    """
    if tuple(map(type, values)) != _TYPES:
        return False
    offer_id, maker, slot, seq, side, currency, low, high, price, margin_bp = values[:10]
    methods, countries, dep_b_bp, dep_s_bp, peer_trades, peer_days, kinds = values[10:17]
    spoken, terms, said_trades, said_partners, said_since, expires_at, worked = values[17:]
    return (
        len(offer_id) == 16
        and len(maker) == 32
        and 0 <= slot < work.MAX_SLOTS
        and 0 <= seq <= MAX_SEQ
        and 0 <= side <= 1
        and currency in EXPONENTS
        and 0 <= price <= MAX_PRICE
        and (not margin_bp if price else -MAX_MARGIN_BP <= margin_bp <= MAX_MARGIN_BP)
        and (
            low == high == 0
            or (
                network.min_amount_sat
                <= low
                <= high
                <= (MAX_OFFER_SAT if dep_b_bp else MAX_FREE_SAT)
                and (not price or (low * price >= _LEAST and high * price <= _MOST))
            )
        )
        and (not dep_b_bp or MIN_DEPOSIT_BP <= dep_b_bp <= MAX_DEPOSIT_BP)
        and MIN_DEPOSIT_BP <= dep_s_bp <= MAX_DEPOSIT_BP
        and 0 <= peer_trades <= MAX_PEER_TRADES
        and 0 <= peer_days <= MAX_PEER_DAYS
        and 0 <= said_partners <= said_trades <= MAX_SAID
        and 0 <= said_since <= 2**40
        and 0 <= expires_at <= 2**40
        and 0 <= worked <= work.MAX_WORK
        and len(terms) <= MAX_TERMS
        and terms.isascii()
        and terms.isprintable()
        and 1 <= len(methods) <= MAX_LIST
        and _listed(methods, METHODS)
        and 1 <= len(kinds) <= MAX_LIST
        and _listed(kinds, _KINDS)
        and (not countries or (len(countries) <= MAX_COUNTRIES and _listed(countries, COUNTRIES)))
        and (not spoken or (len(spoken) <= MAX_LANGUAGES and _listed(spoken, languages())))
        and works(network, maker)
    )


def _listed(names: tuple[Any, ...], known: Container[object]) -> bool:
    """Tell whether these are known names, strictly ascending. Raises TypeError for arrays."""
    if len(names) == 1:
        return names[0] in known
    return all(map(known.__contains__, names)) and all(map(lt, names, names[1:]))


def made_by_its_maker(body: Any, signature: bytes, hashed: bytes, network: Network) -> bool:
    """Tell whether a body has all fields, its maker's work and his signature over `hashed`.

    So it may be good by the bounds of another release, whatever ours say of the rest.
    """
    if not (type(body) is tuple and body[:2] == (VERSION, network.name)):
        return False
    values = dict(zip(FIELDS, body[2:], strict=False))
    try:
        maker = check_node_id("maker", values.get("maker"), network)
        currency = wire.text("currency", values.get("currency"), 32)
        slot = wire.within("slot", values.get("slot"), 0, 255)
        day = work.day_of(wire.within("expires_at", values.get("expires_at"), 0, 2**40))
        worked = wire.within("work", values.get("work"), 0, work.MAX_WORK)
        has = work.bits(network, maker, currency, slot, day, worked)
        if has < work.needed_bits(network, slot):
            return False
        verify("signature", maker, hashed, signature)
    except InvalidRecord:
        return False
    return True


# ------------------------------------------------------------------ the slow look


def check(offer: Any) -> None:
    """Raise InvalidRecord naming the first field of an `Offer` that breaks its bound."""
    wire.exact("offer_id", offer.offer_id, 16)
    wire.within("slot", offer.slot, 0, work.MAX_SLOTS - 1)
    wire.within("seq", offer.seq, 0, MAX_SEQ)
    wire.within("side", int(offer.side), 0, 1)
    check_currency("currency", offer.currency)
    _check_price(offer)
    _check_amounts(offer)
    _check_names("methods", offer.methods, check_method, MAX_LIST, low=1)
    _check_names("countries", offer.countries, check_country, MAX_COUNTRIES)
    if type(offer.dep_b_bp) is not int or offer.dep_b_bp:  # 0: the buyer brings no coin
        wire.within("dep_b_bp", offer.dep_b_bp, MIN_DEPOSIT_BP, MAX_DEPOSIT_BP)
    wire.within("dep_s_bp", offer.dep_s_bp, MIN_DEPOSIT_BP, MAX_DEPOSIT_BP)
    wire.within("peer_trades", offer.peer_trades, 0, MAX_PEER_TRADES)
    wire.within("peer_days", offer.peer_days, 0, MAX_PEER_DAYS)
    _check_names("escrow_kinds", offer.escrow_kinds, _check_escrow_kind, MAX_LIST, low=1)
    _check_names("languages", offer.languages, check_language, MAX_LANGUAGES)
    wire.text("terms", offer.terms, MAX_TERMS)
    wire.within("said_trades", offer.said_trades, 0, MAX_SAID)
    wire.within("said_partners", offer.said_partners, 0, offer.said_trades)
    wire.within("said_since", offer.said_since, 0, 2**40)
    wire.within("expires_at", offer.expires_at, 0, 2**40)
    wire.within("work", offer.work, 0, work.MAX_WORK)
    check_node_id("maker", offer.maker, offer.network)


def _check_price(offer: Any) -> None:
    wire.within("price", offer.price, 0, MAX_PRICE)
    wire.within("margin_bp", offer.margin_bp, -MAX_MARGIN_BP, MAX_MARGIN_BP)
    if offer.price and offer.margin_bp:
        raise InvalidRecord("margin_bp", "stands beside a fixed price")


def _check_amounts(offer: Any) -> None:
    low = wire.within("min_sat", offer.min_sat, 0, MAX_OFFER_SAT)
    high = wire.within("max_sat", offer.max_sat, 0, MAX_OFFER_SAT)
    if low == high == 0:
        return
    wire.within("min_sat", low, offer.network.min_amount_sat, MAX_OFFER_SAT)
    wire.within("max_sat", high, low, MAX_OFFER_SAT)
    if type(offer.dep_b_bp) is int and offer.dep_b_bp == 0:
        wire.within("max_sat", high, low, MAX_FREE_SAT)
    if not offer.price:
        return
    if fiat_for(low, offer.price) < 1:
        raise InvalidRecord("price", "makes min_sat worth less than one minor unit")
    if fiat_for(high, offer.price) > MAX_FIAT_MINOR:
        raise InvalidRecord("price", f"makes max_sat worth over {MAX_FIAT_MINOR} minor units")


def _check_escrow_kind(field: str, name: object) -> None:
    if name not in ESCROW_KINDS:
        raise UnknownName(field, f"holds one that is none of {', '.join(ESCROW_KINDS)}")


def _check_names(
    field: str, value: object, check_one: Callable[[str, object], object], high: int, low: int = 0
) -> None:
    """Check a strictly ascending list of low..high known names."""
    names = wire.items(field, value, high)
    if len(names) < low:
        raise InvalidRecord(field, "is empty")
    for name in names:
        wire.text(field, name, 32, low=1)
        check_one(field, name)
    if any(a >= b for a, b in pairwise(names)):
        raise InvalidRecord(field, "is not strictly ascending")
