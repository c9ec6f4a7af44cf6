"""What a maker does with his own offers: made, edited, kept back, limited, taken back."""

from typing import Any

import pytest
from maker_kit import EUR, FLOATING, Shop
from orderbook_kit import KEY, NOW, TERMS

from orderbook.limits import cap_sat
from orderbook.offer import LIFE_S, Side
from orderbook.own import MAX_END_DAYS, MIN_END_S, Answers, OfferState, Triggers
from orderbook.shell_maker import MAX_MARKET, MAX_OWN
from orderbook.store_offers import _SCRIPTS, OfferStore
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound
from p2pnode.base.history import History
from p2pnode.base.store import Database

TRADE = b"t" * 32
BANK = {"CUSTOM": b"\x07" * 32, "SEPA": b"\x08" * 32}


@pytest.fixture
def shop() -> Shop:
    return Shop()


# -- making


async def test_an_offer_says_all_that_its_maker_said(shop: Shop) -> None:
    said = {
        "accounts": BANK,
        "price": 0,
        "margin_bp": -250,
        "countries": ("AT", "DE"),
        "languages": ("de", "en"),
        "dep_b_bp": 0,
        "dep_s_bp": 2000,
        "peer_trades": 3,
        "peer_days": 30,
        "escrow_kinds": ("wsh-2of3-backup",),
        "terms": "weekdays",
    }
    own = await shop.create(**said)
    (out,) = shop.published()
    assert out == own.offer
    assert {name: getattr(out, name) for name in said if name != "accounts"} == {
        name: value for name, value in said.items() if name != "accounts"
    }
    assert out.methods == ("CUSTOM", "SEPA")
    assert own.accounts == BANK
    assert (own.state, own.acked) == (OfferState.ENABLED, 4)
    assert not any(account in shop.market.records[0] for account in BANK.values())


async def test_without_a_word_both_escrow_kinds_are_offered(shop: Shop) -> None:
    own = await shop.create()
    assert own.offer.escrow_kinds == ("wsh-2of3", "wsh-2of3-backup")


async def test_it_says_what_is_proven_of_its_maker(shop: Shop) -> None:
    shop.histories.known[KEY.node_id] = History(trades=34, partners=20, first_at=NOW - 1000)
    own = await shop.create()
    said = own.offer
    assert (said.said_trades, said.said_partners, said.said_since) == (34, 20, NOW - 1000)
    shop.histories.known[KEY.node_id] = History(trades=35, partners=21, first_at=NOW - 1000)
    changed = await shop.maker.edit(own.offer_id, {"terms": "x"})
    assert (changed.offer.said_trades, changed.offer.said_partners) == (35, 21)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"min_sat": 0, "max_sat": 0}, "min_sat"),
        ({"min_sat": 199_999}, "min_sat"),
        ({"max_sat": 199_999}, "max_sat"),
        ({"price": -1}, "price"),
        ({"price": 1}, "price"),
        ({"margin_bp": 1}, "margin_bp"),
        ({"price": 0, "margin_bp": 5001}, "margin_bp"),
        ({"currency": "XAU"}, "currency"),
        ({"accounts": {"NO_SUCH": bytes(32)}}, "methods"),
        ({"accounts": {}}, "methods"),
        ({"countries": ("de",)}, "countries"),
        ({"languages": ("DE",)}, "languages"),
        ({"dep_b_bp": 999}, "dep_b_bp"),
        ({"dep_b_bp": 0, "max_sat": 1_000_001}, "max_sat"),
        ({"dep_s_bp": 5001}, "dep_s_bp"),
        ({"dep_s_bp": 0}, "dep_s_bp"),
        ({"peer_trades": 65}, "peer_trades"),
        ({"peer_days": -1}, "peer_days"),
        ({"escrow_kinds": ("wsh-3of3",)}, "escrow_kinds"),
        ({"terms": "x" * 501}, "terms"),
        ({"terms": "\u202e"}, "terms"),
        ({"ends_in_s": -1}, "expires"),
        ({"ends_in_s": MIN_END_S - 1}, "expires"),
        ({"ends_in_s": MAX_END_DAYS * 86_400 + 1}, "expires"),
    ],
)
async def test_bad_terms_are_neither_kept_nor_sent(
    shop: Shop, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        await shop.create(**change)
    assert caught.value.field == field
    assert shop.maker.mine() == ()
    assert shop.market.records == []
    own = await shop.create()
    with pytest.raises(InvalidRecord) as caught:
        await shop.maker.edit(own.offer_id, **edit_of(change))
    assert caught.value.field == field
    assert shop.maker.own(own.offer_id) == own
    assert len(shop.market.records) == 1


def edit_of(change: dict[str, Any]) -> dict[str, Any]:
    private = {k: v for k, v in change.items() if k in {"accounts", "ends_in_s"}}
    return {"terms": {k: v for k, v in change.items() if k not in private}, **private}


async def test_an_amount_over_what_a_method_allows_names_method_and_bound(shop: Shop) -> None:
    methods = ("CUSTOM", "SEPA")
    lowest = min(methods, key=cap_sat)
    most = cap_sat(lowest)
    assert (await shop.create(accounts=BANK, max_sat=most)).offer.max_sat == most
    with pytest.raises(InvalidRecord, match=f"max_sat: is over {most} sat, .* by {lowest}$"):
        await shop.create(accounts=BANK, max_sat=most + 1)


async def test_a_method_that_is_not_used_for_a_currency_is_named(shop: Shop) -> None:
    with pytest.raises(InvalidRecord, match="methods: SEPA is not used for JPY"):
        await shop.create(accounts=BANK, currency="JPY", price=10**11)


async def test_an_operator_may_lower_a_cap() -> None:
    shop = Shop()
    shop.caps = {"CUSTOM": 300_000}
    shop.restart()
    with pytest.raises(InvalidRecord, match="max_sat: is over 300000 sat"):
        await shop.create()


# -- how many, and which slots


async def test_there_is_a_most_of_own_offers_in_a_market_and_in_all(shop: Shop) -> None:
    made = [await shop.create() for _ in range(MAX_MARKET)]
    assert [own.offer.slot for own in made] == list(range(MAX_MARKET))
    with pytest.raises(LocalFault, match=f"{MAX_MARKET} of your offers stand in EUR already"):
        await shop.create()
    more = [await shop.create(currency="USD") for _ in range(MAX_OWN - MAX_MARKET)]
    assert [own.offer.slot for own in more] == list(range(MAX_OWN - MAX_MARKET))
    with pytest.raises(LocalFault, match=f"{MAX_OWN} own offers already"):
        await shop.create(currency="JPY")
    await shop.maker.withdraw(made[3].offer_id)
    assert (await shop.create()).offer.slot == 3
    assert len(shop.shown()) == MAX_OWN


async def test_a_disabled_offer_gives_its_slot_away_and_gets_the_lowest_free_one(
    shop: Shop,
) -> None:
    first, second = await shop.create(), await shop.create()
    await shop.maker.disable(first.offer_id)
    third = await shop.create()
    assert (second.offer.slot, third.offer.slot) == (1, 0)
    again = await shop.maker.enable(first.offer_id)
    assert again.offer.slot == 2
    assert set(shop.shown()) == {own.offer_id for own in (first, second, third)}


async def test_a_slot_that_is_given_away_shows_the_new_offer_to_everybody(shop: Shop) -> None:
    first = await shop.create()
    await shop.maker.withdraw(first.offer_id)
    second = await shop.create()
    assert (second.offer.slot, second.offer.seq > first.offer.seq + 1) == (0, True)
    assert set(shop.shown()) == {second.offer_id}


# -- editing


async def test_an_edit_is_a_new_version_and_the_old_one_is_refused(shop: Shop) -> None:
    own = await shop.create()
    change = {"price": 0, "margin_bp": 50, "max_sat": 900_000, "countries": ("FR",)}
    changed = await shop.maker.edit(own.offer_id, change, accounts=BANK)
    assert (changed.offer.offer_id, changed.offer.slot) == (own.offer_id, own.offer.slot)
    assert changed.offer.seq > own.offer.seq
    assert {name: getattr(changed.offer, name) for name in change} == change
    assert changed.offer.methods == ("CUSTOM", "SEPA")
    assert shop.shown() == {own.offer_id: changed.offer}
    assert shop.maker.own_version(changed.offer.hash)
    with pytest.raises(NotFound, match="offer_hash: is no current offer"):
        shop.maker.own_version(own.offer.hash)


async def test_what_only_its_maker_knows_is_changed_without_a_new_version(shop: Shop) -> None:
    own = await shop.create()
    triggers, answers = Triggers(below=EUR - 1), Answers(accept_bp=50)
    changed = await shop.maker.edit(own.offer_id, {}, triggers=triggers, answers=answers)
    assert (changed.offer, changed.triggers, changed.answers) == (own.offer, triggers, answers)
    assert shop.maker.own(own.offer_id) == changed
    assert len(shop.market.records) == 1


@pytest.mark.parametrize("name", ["side", "currency", "maker", "seq", "slot", "work", "offer_id"])
async def test_what_stays_for_an_offers_life_is_refused_by_its_name(shop: Shop, name: str) -> None:
    own = await shop.create()
    with pytest.raises(InvalidRecord, match=f"{name}: stays for an offer's life: clone it"):
        await shop.maker.edit(own.offer_id, {name: getattr(own.offer, name)})


async def test_a_disabled_offer_is_edited_at_home(shop: Shop) -> None:
    own = await shop.create()
    await shop.maker.disable(own.offer_id)
    out = len(shop.market.records)
    with pytest.raises(InvalidRecord, match="max_sat"):
        await shop.maker.edit(own.offer_id, {"max_sat": 1})
    await shop.maker.edit(own.offer_id, {"price": 5 * 10**10})
    assert len(shop.market.records) == out
    back = await shop.maker.enable(own.offer_id)
    assert back.offer.price == 5 * 10**10
    with pytest.raises(NotFound, match="offer_hash: is no current offer"):
        shop.maker.own_version(own.offer.hash)
    assert shop.shown() == {own.offer_id: back.offer}


# -- enabled, disabled, withdrawn


async def test_disable_takes_it_out_of_the_book_and_keeps_its_terms(shop: Shop) -> None:
    own = await shop.create()
    kept = await shop.maker.disable(own.offer_id)
    assert (kept.state, kept.why, kept.offer.max_sat) == ("disabled", "by its maker", 1_000_000)
    assert shop.shown() == {}
    sent = shop.published()[-1]
    assert (sent.seq, sent.min_sat, sent.max_sat) == (kept.offer.seq, 0, 0)
    assert sent.expires_at >= own.offer.expires_at  # outlives every earlier version
    with pytest.raises(LocalFault, match="is disabled already"):
        await shop.maker.disable(own.offer_id)
    back = await shop.maker.enable(own.offer_id)
    assert (back.state, back.why) == ("enabled", "")
    assert shop.shown() == {own.offer_id: back.offer}
    with pytest.raises(LocalFault, match="is enabled already"):
        await shop.maker.enable(own.offer_id)


async def test_cancel_is_once_and_for_good(shop: Shop) -> None:
    own = await shop.create()
    gone = await shop.maker.withdraw(own.offer_id)
    assert (gone.state, gone.acked, shop.shown()) == (OfferState.WITHDRAWN, 4, {})
    for act in (shop.maker.withdraw, shop.maker.enable, shop.maker.disable):
        with pytest.raises(LocalFault, match="is withdrawn"):
            await act(own.offer_id)
    with pytest.raises(LocalFault, match="is withdrawn"):
        await shop.maker.edit(own.offer_id, {"terms": ""})
    with pytest.raises(NotFound):
        await shop.maker.withdraw(b"n" * 16)


async def test_a_disabled_offer_is_withdrawn_without_a_word(shop: Shop) -> None:
    own = await shop.create()
    await shop.maker.disable(own.offer_id)
    out = len(shop.market.records)
    assert (await shop.maker.withdraw(own.offer_id)).state is OfferState.WITHDRAWN
    assert len(shop.market.records) == out


# -- triggers


@pytest.mark.parametrize(
    ("triggers", "price", "why"),
    [
        (Triggers(below=EUR), EUR - 1, "the reference price 61,239.999999 EUR is below 61,240.00"),
        (Triggers(above=EUR), EUR + 10**6, "the reference price 61,241.00 EUR is above 61,240.00"),
        (Triggers(below=1, above=EUR), 2 * EUR, "the reference price 122,480.00 EUR is above"),
    ],
)
async def test_a_trigger_says_why(shop: Shop, triggers: Triggers, price: int, why: str) -> None:
    own = await shop.create(triggers=triggers)
    assert shop.maker.crossed(own) == ""
    shop.references.prices["EUR"] = price
    assert shop.maker.crossed(own).startswith(why)
    shop.references.prices.clear()
    assert shop.maker.crossed(own) == ""  # no reference crosses nothing


async def test_what_a_trigger_would_disable_at_once_is_not_published(shop: Shop) -> None:
    own = await shop.create(triggers=Triggers(below=EUR))
    shop.references.prices["EUR"] = EUR - 1
    with pytest.raises(LocalFault, match="would be disabled at once: the reference price"):
        await shop.create(triggers=Triggers(below=EUR))
    other = await shop.create()
    with pytest.raises(LocalFault, match="would be disabled at once"):
        await shop.maker.edit(other.offer_id, {}, triggers=Triggers(below=EUR))
    assert shop.maker.own(other.offer_id) == other
    await shop.maker.disable(own.offer_id)
    with pytest.raises(LocalFault, match="would be disabled at once"):
        await shop.maker.enable(own.offer_id)
    await shop.maker.edit(own.offer_id, {}, triggers=Triggers())
    assert (await shop.maker.enable(own.offer_id)).enabled


@pytest.mark.parametrize(
    "change", [{"below": -1}, {"above": 2**53}, {"below": 2, "above": 2}, {"below": True}]
)
def test_triggers_are_bounded(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord, match="disable_"):
        Triggers(**change)


# -- trades


async def test_a_reserved_offer_leaves_the_book_and_comes_back(shop: Shop) -> None:
    own = await shop.create()
    shop.maker.reserve(own.offer_id, TRADE)
    held = shop.maker.own(own.offer_id)
    shop.maker.reserve(own.offer_id, TRADE)  # the same effect, performed again after a crash
    assert shop.maker.own(own.offer_id) == held
    assert held.current.withdrawn
    with pytest.raises(LocalFault, match="is reserved"):
        shop.maker.reserve(own.offer_id, b"u" * 32)
    with pytest.raises(LocalFault, match="reserved by trade 747474"):
        await shop.maker.withdraw(own.offer_id)
    with pytest.raises(LocalFault, match="reserved by trade 747474"):
        await shop.maker.edit(own.offer_id, {"terms": ""})
    shop.maker.release(b"u" * 32)
    assert shop.maker.own(own.offer_id) == held
    shop.maker.release(TRADE)
    shop.maker.release(TRADE)
    back = shop.maker.own(own.offer_id)
    assert (back.state, back.trade_id, back.offer.max_sat) == ("enabled", None, own.offer.max_sat)
    assert back.offer.seq > held.offer.seq > own.offer.seq


async def test_an_offer_that_comes_back_to_a_full_market_is_disabled(shop: Shop) -> None:
    own = await shop.create()
    shop.maker.reserve(own.offer_id, TRADE)
    for _ in range(MAX_MARKET):
        await shop.create()
    shop.maker.release(TRADE)
    back = shop.maker.own(own.offer_id)
    assert (back.state, back.trade_id) == (OfferState.DISABLED, None)
    assert back.why == "32 offers stood in its market when its trade ended"


async def test_reserved_offers_do_not_count_for_ever(shop: Shop) -> None:
    for n in range(MAX_OWN + 2):
        own = await shop.create()
        assert own.offer.slot == 0
        shop.maker.reserve(own.offer_id, n.to_bytes(32, "big"))


async def test_a_reservation_is_undone_with_the_step_it_belongs_to(shop: Shop) -> None:
    own = await shop.create()
    with pytest.raises(RuntimeError), shop.database.transaction():
        shop.maker.reserve(own.offer_id, TRADE)
        raise RuntimeError("the step failed")
    assert shop.maker.own(own.offer_id) == own


# -- answers, and the file


async def test_answers_to_proposals_are_kept_and_never_published(shop: Shop) -> None:
    made = await shop.create(answers=Answers(accept_bp=100))
    assert made.answers == Answers(accept_bp=100, counter_bp=0, otherwise="ask")
    wanted = Answers(accept_bp=50, counter_bp=200, otherwise="refuse")
    changed = shop.maker.answer(made.offer_id, wanted)
    assert (changed.answers, changed.offer) == (wanted, made.offer)
    assert len(shop.market.records) == 1
    assert shop.restart().own(made.offer_id).answers == wanted
    await shop.maker.withdraw(made.offer_id)
    with pytest.raises(LocalFault, match="withdrawn"):
        shop.maker.answer(made.offer_id, Answers())


@pytest.mark.parametrize(
    "change", [{"accept_bp": -1}, {"accept_bp": 5001}, {"counter_bp": True}, {"otherwise": "yes"}]
)
def test_answers_are_bounded(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord) as caught:
        Answers(**change)
    assert caught.value.field in change


async def test_all_of_an_own_offer_survives_a_restart(shop: Shop) -> None:
    own = await shop.maker.create(
        **FLOATING | {"accounts": BANK},
        ends_in_s=86_400,
        triggers=Triggers(below=1, above=EUR + 1),
        answers=Answers(accept_bp=1, counter_bp=2, otherwise="refuse"),
    )
    assert shop.restart().mine() == (own,)


def test_a_file_from_before_slots_is_opened_and_its_offers_are_gone() -> None:
    database = Database(None)
    database.migrate("offers", _SCRIPTS[:2])
    database.run(
        "INSERT INTO offers_own VALUES (?, ?, 'enabled', ?, NULL, 1, 1, 3, 4, 0, 0, 'ask')",
        bytes(16),
        b"\x90",
        bytes(32),
    )
    assert OfferStore(database, Shop().network).all() == ()


async def test_an_own_offer_that_nobody_could_read_any_more_is_left_alone(shop: Shop) -> None:
    """A currency may cease to be one between two versions of this program."""
    gone, own = await shop.create(), await shop.create()
    body = list(gone.offer.body())
    body[body.index("EUR")] = "DEM"
    shop.database.run(
        "UPDATE offers_own SET body = ? WHERE offer_id = ?", wire.pack(body), gone.offer_id
    )
    again = shop.restart()
    assert again.mine() == (own,)
    with pytest.raises(NotFound):
        again.own(gone.offer_id)


async def test_sides_are_both_made(shop: Shop) -> None:
    for side in Side:
        assert (await shop.create(side=side)).offer.side is side
    assert TERMS["side"] is Side.SELL
    assert all(own.offer.expires_at == NOW + LIFE_S for own in shop.maker.mine())
