"""What a maker's desk lets a stranger have of an offer, whatever he holds of its past."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from maker_kit import EUR, FLOATING, Shop
from orderbook_kit import NET, OTHER

from p2pnode.app.desk import OfferDesk
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.history import History

TAKER = OTHER.node_id


async def desk(**change: object) -> tuple[Shop, OfferDesk, bytes]:
    shop = Shop()
    own = await shop.maker.create(**(FLOATING | change))
    accounts = SimpleNamespace(get=lambda account_id: account_id)
    return shop, OfferDesk(shop.maker, accounts, NET), own.offer_id  # type: ignore[arg-type]


async def test_an_agreed_sum_brings_its_price_and_nothing_else_of_the_past() -> None:
    """While no reference is known a COUNTER's price stands in; an edit since holds all the same."""
    shop, found, offer_id = await desk(dep_s_bp=1500)
    own = await shop.maker.edit(offer_id, {"dep_s_bp": 5000, "min_sat": 900_000})
    shop.references.prices.clear()
    with pytest.raises(InvalidRecord, match="price"):
        found.terms(own.offer.hash, "CUSTOM", TAKER)
    terms = found.terms(own.offer.hash, "CUSTOM", TAKER, price=EUR)
    assert terms is not None
    assert (terms.price, terms.dep_s_bp, terms.min_sat) == (EUR, 5000, 900_000)
    with pytest.raises(InvalidRecord, match="method"):
        found.terms(own.offer.hash, "SEPA", TAKER, price=EUR)
    shop.references.prices["EUR"] = 2 * EUR  # a market that there is goes before
    seen = found.terms(own.offer.hash, "CUSTOM", TAKER, price=EUR)
    assert seen is not None
    assert seen.price == own.offer.price_at(2 * EUR)


async def test_an_agreed_sum_opens_no_offer_to_who_has_proven_nothing() -> None:
    shop, found, offer_id = await desk()
    own = await shop.maker.edit(offer_id, {"peer_trades": 3})
    shop.references.prices.clear()
    with pytest.raises(InvalidRecord, match="peer_trades"):
        found.terms(own.offer.hash, "CUSTOM", TAKER, price=EUR)
    shop.histories.known[TAKER] = replace(History(), trades=3, partners=3, first_at=1)
    assert found.terms(own.offer.hash, "CUSTOM", TAKER, price=EUR) is not None


async def test_a_version_before_an_edit_is_no_offer_any_more_with_or_without_a_price() -> None:
    shop, found, offer_id = await desk()
    before = shop.maker.own(offer_id).offer.hash
    await shop.maker.edit(offer_id, {"margin_bp": 500})
    assert found.terms(before, "CUSTOM", TAKER, price=EUR) is None
    after = shop.maker.own(offer_id).offer.hash
    await shop.maker.disable(offer_id)
    assert found.terms(after, "CUSTOM", TAKER, price=EUR) is None
