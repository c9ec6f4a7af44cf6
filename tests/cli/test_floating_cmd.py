"""Trades on offers whose price follows the market, or that ask something of their taker."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bargain_daemon import Desk, Town, town
from maker_kit import EUR

from p2pnode.app.commands.account import account
from p2pnode.app.commands.offer import offer
from p2pnode.app.commands.proposal import proposal
from p2pnode.app.commands.trade import trade
from p2pnode.base.errors import LocalFault
from p2pnode.base.history import History

DAY_S = 86_400
FORM = """name = "bank"
method = "REVOLUT"

[details]
user_name = "samsmith1"
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Town]:
    (tmp_path / "bank.toml").write_text(FORM)
    with town(tmp_path) as made:
        for desk in (made.maker, made.taker):
            words = ("add", "--name", "home", "--method", "CUSTOM", "--details", "IBAN 1")
            assert desk(account, *words).exit_code == 0
            added = desk(account, "add", str(tmp_path / "bank.toml"))
            assert added.exit_code == 0, added.stderr
        yield made


def loads(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def create(here: Town, *more: str, side: str = "--sell", account: str = "home") -> str:
    words = ("--cur", "EUR", "--min", "0.002", "--max", "0.01", "--account", account)
    made = here.maker(offer, "create", side, *words, *more, "--json")
    assert made.exit_code == 0, made.stderr
    assert here.taker(offer, "list", "--cur", "EUR").exit_code == 0
    return str(loads(made.stdout)["offer_id"])


def take(desk: Desk, offer_id: str, *more: str, amount: str = "0.005") -> Any:
    return desk(trade, "take", offer_id, "--amount", amount, *more)


def until(here: Town, trade_id: str, state: str) -> dict[str, Any]:
    """Wait for the taker's trade to be in a state."""
    return here.state(here.taker, trade_id, state)


# -- the price


def test_price_margin_and_reference_are_shown_and_taken(here: Town) -> None:
    offer_id = create(here, "--margin", "1.2")
    asked = take(here.taker, offer_id)
    assert asked.exit_code == 2
    assert asked.stderr.splitlines()[:2] == [
        "You buy 0.0050 BTC for 309.87 EUR",
        "  price     61,974.88 EUR/BTC, 1.20 % above the reference price of 61,240.00 EUR",
    ]
    taken = take(here.taker, offer_id, "--yes", "--json")
    assert taken.exit_code == 0, taken.stderr
    made = loads(taken.stdout)
    assert made["fiat_minor"] == 30_987
    assert until(here, made["trade_id"], "Funding")["fiat_minor"] == 30_987


def test_an_absurd_price_is_said_before_one_says_yes(here: Town) -> None:
    offer_id = create(here, "--price", "91860", "--yes")
    asked = take(here.taker, offer_id)
    assert asked.exit_code == 2
    said = " ".join(asked.stderr.split())
    assert "! price: is 50.00 % above the reference price; more than 20 % is rarely meant" in said
    fair = take(here.taker, create(here, "--price", "61240"))
    assert "! " not in fair.stderr


def test_a_view_within_one_percent_is_agreed_to(here: Town) -> None:
    here.references["taker"].prices["EUR"] = EUR * 995 // 1000
    offer_id = create(here, "--margin", "0")
    taken = take(here.taker, offer_id, "--yes", "--json")
    assert until(here, loads(taken.stdout)["trade_id"], "Funding")["fiat_minor"] == 30_467


def test_a_refusal_for_the_price_shows_both_views(here: Town) -> None:
    here.references["taker"].prices["EUR"] = EUR * 98 // 100
    offer_id = create(here, "--margin", "0")
    taken = take(here.taker, offer_id, "--yes", "--json")
    refused = until(here, loads(taken.stdout)["trade_id"], "Aborted")
    assert refused["reason"] == (
        "refused: fiat_minor: is 300.08 EUR by your view of the market and 306.20 EUR by ours, "
        "over 1.00 % apart"
    )
    assert here.taker(trade, "show", refused["trade_id"]).exit_code == 0


def test_without_a_reference_nobody_takes_blind(here: Town) -> None:
    offer_id = create(here, "--margin", "-2")
    here.references["taker"].prices.clear()
    refused = take(here.taker, offer_id, "--yes")
    assert (refused.exit_code, refused.stdout) == (70, "")
    assert refused.stderr == (
        "error: price: it follows the market, and this node knows no reference price of EUR "
        "now: see `p2pnode market price EUR`\n"
    )
    shown = here.taker(offer, "show", offer_id).stdout
    assert "BTC for EUR, unpriced\n" in shown
    assert "2.00 % below a reference price that this node does not know now" in (
        " ".join(shown.split())
    )
    assert here.taker(trade, "list").stdout == ""


def test_a_maker_without_a_reference_says_so(here: Town) -> None:
    offer_id = create(here, "--margin", "0")
    here.references["maker"].prices.clear()
    taken = take(here.taker, offer_id, "--yes", "--json")
    refused = until(here, loads(taken.stdout)["trade_id"], "Aborted")
    assert refused["reason"] == "refused: price: this node knows no reference now"


@pytest.mark.parametrize("percent", [97, 103, 0])
def test_a_reference_that_moves_or_goes_between_quote_and_take_is_caught(
    here: Town, percent: int
) -> None:
    offer_id = create(here, "--margin", "0")
    asked = {"offer_id": offer_id, "amount_sat": 500_000, "account": "home"}
    api = here.taker.client()
    quote = api.post("/v1/quotes", **asked)
    assert (quote["reference"], quote["margin_bp"], quote["fiat_minor"]) == (EUR, 0, 30_620)
    here.references["taker"].prices["EUR"] = EUR * percent // 100
    with pytest.raises(LocalFault) as told:
        api.post("/v1/trades", **asked, fiat_minor=quote["fiat_minor"])
    why = "no more what you were shown" if percent else "knows no reference price of EUR"
    assert why in str(told.value)
    assert here.taker(trade, "list").stdout == ""
    here.references["taker"].prices["EUR"] = EUR
    assert api.post("/v1/trades", **asked, fiat_minor=quote["fiat_minor"])["fiat_minor"] == 30_620


def test_a_fixed_price_that_was_edited_between_quote_and_take_is_caught(here: Town) -> None:
    offer_id = create(here, "--price", "61240")
    api, asked = here.taker.client(), {"offer_id": offer_id, "amount_sat": 500_000}
    quote = api.post("/v1/quotes", **asked)
    assert here.maker(offer, "edit", offer_id, "--price", "61241").exit_code == 0
    with pytest.raises(LocalFault, match=re.escape("the price is 61,241.00 EUR per BTC now")):
        api.post("/v1/trades", **asked, account="home", fiat_minor=quote["fiat_minor"])


def test_a_trigger_that_has_crossed_refuses_a_take_at_once(here: Town) -> None:
    offer_id = create(here, "--price", "61240", "--disable-below", "61000")
    here.references["maker"].prices["EUR"] = EUR * 99 // 100
    taken = take(here.taker, offer_id, "--yes", "--json")
    refused = until(here, loads(taken.stdout)["trade_id"], "Aborted")
    assert "is no current offer of this node" in refused["reason"]


def test_another_price_is_proposed_on_a_floating_offer(here: Town) -> None:
    here.references["taker"].prices["EUR"] = EUR * 995 // 1000
    offer_id = create(here, "--margin", "0", "--accept-within", "1")
    taken = take(here.taker, offer_id, "--price", "60700", "--yes", "--json")
    assert taken.exit_code == 0, taken.stderr
    answer = loads(taken.stdout)
    assert (answer["state"], answer["fiat_minor"]) == ("Taken", 30_350)
    assert answer["offer_price"] == EUR * 995 // 1000
    assert until(here, answer["trade_id"], "Funding")["fiat_minor"] == 30_350


@pytest.mark.parametrize("price", [2 * EUR, 0])
def test_a_sum_that_was_agreed_holds_while_the_reference_moves_or_goes(
    here: Town, price: int
) -> None:
    offer_id = create(here, "--margin", "0")
    asked = take(here.taker, offer_id, "--fiat", "300", "--wait", "0", "--yes", "--json")
    short = loads(asked.stdout)["proposal_id"]
    here.until(here.maker, short, "Proposed")
    assert here.maker(proposal, "accept", short, "--yes").exit_code == 0
    here.until(here.taker, short, "Countered")
    for name in ("maker", "taker"):
        here.references[name].prices["EUR"] = price
    accepted = here.taker(proposal, "accept", short, "--yes", "--json")
    assert accepted.exit_code == 0, accepted.stderr
    assert until(here, loads(accepted.stdout)["trade_id"], "Funding")["fiat_minor"] == 30_000


def test_the_costs_of_a_proposal_show_the_offers_price_too(here: Town) -> None:
    offer_id = create(here, "--margin", "1.2")
    lines = take(here.taker, offer_id, "--price", "61000").stderr.splitlines()
    assert lines[:3] == [
        "You buy 0.0050 BTC for 305.00 EUR",
        "  price     61,000.00 EUR/BTC, the offer's 61,974.88 is 1.20 % above the",
        "            reference price of 61,240.00 EUR",
    ]


def test_no_proposal_is_made_blind(here: Town) -> None:
    offer_id = create(here, "--margin", "0")
    here.references["taker"].prices.clear()
    refused = take(here.taker, offer_id, "--price", "60000", "--yes")
    assert refused.exit_code == 70
    assert "knows no reference price of EUR now" in refused.stderr


# -- methods and accounts


def test_the_method_is_that_of_the_account(here: Town) -> None:
    offer_id = create(here, "--price", "61240", "--account", "bank")
    several = take(here.taker, offer_id, "--yes")
    assert several.exit_code == 70
    assert several.stderr == ("error: account: 'home', 'bank' are of CUSTOM or REVOLUT: name one\n")
    wrong = take(here.taker, offer_id, "--account", "home", "--method", "revolut", "--yes")
    assert wrong.exit_code == 70
    assert "'home' is one of CUSTOM, not of REVOLUT" in wrong.stderr
    other = take(here.taker, offer_id, "--method", "SEPA", "--yes")
    assert (other.exit_code, other.stderr) == (65, "error: method: is none of CUSTOM, REVOLUT\n")
    unknown = take(here.taker, offer_id, "--account", "nobody", "--yes")
    assert unknown.exit_code == 70
    taken = take(here.taker, offer_id, "--method", "custom", "--yes", "--json")
    assert loads(taken.stdout)["method"] == "CUSTOM"
    assert until(here, loads(taken.stdout)["trade_id"], "Funding")["method"] == "CUSTOM"


def test_each_method_discloses_its_own_account(here: Town) -> None:
    offer_id = create(here, "--price", "61240", "--account", "bank", side="--buy")
    taken = take(here.taker, offer_id, "--account", "bank", "--yes", "--json", amount="0.002")
    assert taken.exit_code == 0, taken.stderr
    assert loads(taken.stdout)["method"] == "REVOLUT"
    assert until(here, loads(taken.stdout)["trade_id"], "Funding")["method"] == "REVOLUT"


def test_who_has_no_account_for_it_is_told_how_to_add_one(here: Town) -> None:
    offer_id = create(here, "--price", "61240", account="bank")
    assert here.taker(account, "remove", "bank", "--yes").exit_code == 0
    refused = take(here.taker, offer_id, "--yes")
    assert refused.exit_code == 70
    assert "you have none of REVOLUT; add one with `p2pnode account add`" in refused.stderr


# -- limits and history


def test_a_take_beyond_ones_own_limit_says_so_before_anything_is_sent(here: Town) -> None:
    offer_id = create(here, "--price", "61240", account="bank")
    refused = take(here.taker, offer_id, "--yes")
    assert refused.exit_code == 70
    assert refused.stderr == (
        "error: amount_sat: 0.00200000 BTC is the most by REVOLUT while you have no proven trade\n"
    )
    assert here.taker(trade, "list").stdout == here.maker(trade, "list").stdout == ""
    assert take(here.taker, offer_id, "--yes", amount="0.002").exit_code == 0


def test_a_buyers_proven_history_lifts_the_limit(here: Town) -> None:
    me = here.node_id("taker")
    here.histories.known[me] = History(trades=5, partners=4, first_at=here.now() - 60 * DAY_S)
    offer_id = create(here, "--price", "61240", account="bank")
    taken = take(here.taker, offer_id, "--yes", "--json")
    assert taken.exit_code == 0, taken.stderr
    assert until(here, loads(taken.stdout)["trade_id"], "Funding")["method"] == "REVOLUT"


def test_a_history_that_only_its_owner_has_seen_is_refused_with_the_makers_value(
    here: Town,
) -> None:
    offer_id = create(here, "--price", "61240", "--peer-trades", "3", "--peer-days", "30")
    shown = here.taker(offer, "show", offer_id).stdout
    assert "  asks      3 trades and a first one 30 days ago proven by its counterparty" in shown
    taken = take(here.taker, offer_id, "--yes", "--json")
    refused = until(here, loads(taken.stdout)["trade_id"], "Aborted")
    assert refused["reason"] == "refused: peer_trades: is 0 as far as is proven; 3 are asked for"
    me = here.node_id("taker")
    here.histories.known[me] = History(trades=3, partners=3, first_at=here.now() - 29 * DAY_S)
    again = take(here.taker, offer_id, "--yes", "--json")
    refused = until(here, loads(again.stdout)["trade_id"], "Aborted")
    assert "peer_days: is 29 as far as is proven; 30 are asked for" in refused["reason"]
    here.histories.known[me] = History(trades=3, partners=3, first_at=here.now() - 30 * DAY_S)
    good = take(here.taker, offer_id, "--yes", "--json")
    assert until(here, loads(good.stdout)["trade_id"], "Funding")


def test_a_proposal_is_judged_by_history_and_limits_too(here: Town) -> None:
    offer_id = create(here, "--price", "61240", "--peer-trades", "3")
    asked = take(here.taker, offer_id, "--price", "61000", "--yes", "--json")
    assert asked.exit_code == 0, asked.stderr
    told = here.until(here.taker, loads(asked.stdout)["proposal_id"], "Declined")
    assert "is 0 as far as is proven; 3 are asked for" in told["next"]
    other = create(here, "--price", "61240", account="bank")
    refused = take(here.taker, other, "--price", "61000", "--yes")
    assert refused.exit_code == 70
    assert "0.00200000 BTC is the most by REVOLUT while you have no proven trade" in refused.stderr
    good = take(here.taker, other, "--price", "61000", "--yes", "--wait", "0", amount="0.002")
    assert good.exit_code == 0, good.stderr


def test_a_seller_asks_for_the_makers_receipts_before_he_judges_him(here: Town) -> None:
    offer_id = create(here, "--price", "61240", side="--buy", account="bank")
    asked: list[bytes] = []

    async def shown_nothing(peer: bytes, offer_hash: bytes) -> None:
        asked.append(peer)

    async def shown(peer: bytes, offer_hash: bytes) -> None:
        asked.append(peer)
        first_at = here.now() - 60 * DAY_S
        here.histories.known[peer] = History(trades=9, partners=5, first_at=first_at)

    here.introduce("taker", shown_nothing)
    refused = take(here.taker, offer_id, "--account", "bank", "--yes")
    assert (refused.exit_code, asked) == (70, [here.node_id("maker")])
    assert "is the most by REVOLUT while the maker has no proven trade" in refused.stderr
    assert here.taker(trade, "list").stdout == ""
    here.introduce("taker", shown)
    taken = take(here.taker, offer_id, "--account", "bank", "--yes", "--json")
    assert taken.exit_code == 0, taken.stderr
    assert until(here, loads(taken.stdout)["trade_id"], "Funding")["role"] == "seller"


def test_receipts_are_shown_only_to_a_maker_who_judges_by_them(here: Town) -> None:
    """They name third people, so nobody has them whom they do not concern."""
    told: list[bytes] = []

    async def shown(peer: bytes, offer_hash: bytes) -> None:
        told.append(peer)

    here.introduce("taker", shown)
    offer_id = create(here, "--price", "61240", "--peer-trades", "1")
    asked = take(here.taker, offer_id, "--price", "61000", "--yes", "--json")
    assert (asked.exit_code, told) == (0, [here.node_id("maker")]), asked.stderr
    plain = create(here, "--price", "61240")
    taken = take(here.taker, plain, "--yes", "--json")
    assert (taken.exit_code, len(told)) == (0, 1), taken.stderr
