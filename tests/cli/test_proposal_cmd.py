"""`trade take` with its costs, `proposal` and the offers' answers: words, JSON, exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bargain_daemon import Desk, Town, town

from p2pnode.app.commands.account import account
from p2pnode.app.commands.offer import offer
from p2pnode.app.commands.proposal import proposal
from p2pnode.app.commands.trade import trade

CREATE = ("--cur", "EUR", "--min", "0.002", "--max", "0.01", "--price", "61240")
ACCOUNT = ("--account", "home")
NOBODY = "Nobody is there to answer: say so with --yes."


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path) as made:
        for desk in (made.maker, made.taker):
            words = ("add", "--name", "home", "--method", "CUSTOM", "--details", "IBAN 1")
            assert desk(account, *words).exit_code == 0
        yield made


def loads(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def create(here: Town, side: str = "--sell", *more: str) -> str:
    """Publish the maker's offer, let the taker see it; returns its id."""
    made = here.maker(offer, "create", side, *CREATE, *ACCOUNT, *more, "--json")
    assert made.exit_code == 0, made.stderr
    assert here.taker(offer, "list", "--cur", "EUR").exit_code == 0
    return str(loads(made.stdout)["offer_id"])


def take(desk: Desk, offer_id: str, *more: str, amount: str = "0.005") -> Any:
    return desk(trade, "take", offer_id, "--amount", amount, *ACCOUNT, *more)


def test_the_whole_cost_is_shown_before_anything_is_taken(here: Town) -> None:
    offer_id = create(here)
    asked = take(here.taker, offer_id)
    assert asked.exit_code == 2
    assert asked.stdout == ""
    lines = asked.stderr.splitlines()
    assert lines[:12] == [
        "You buy 0.0050 BTC for 306.20 EUR",
        "  price     61,240.00 EUR/BTC",
        "  paid by   CUSTOM: they are told your account home",
        "  you lock  0.00075 BTC: your deposit",
        "  they lock 0.00575 BTC: what they sell and a deposit of 0.00075",
        "  fee now   252 sat for one coin, at 2 sat/vB",
        "  fee later 410 sat, off yours",
        "  back      0.0057459 BTC to you when all goes well",
        "  arbiter   one of 3: 1500 sat, only in a dispute, off the escrow whoever wins",
        "  escrow    2 of 3 with a backup: after 34 days the runner-up can judge",
        "  time      10 min to sign, 1 confirmation, then 6 days to pay; a dispute takes",
        "            up to 9 days more",
    ]
    assert NOBODY in asked.stderr
    assert max(map(len, lines[:12])) <= 80
    assert here.taker(trade, "list").stdout == ""


def test_a_seller_sees_what_he_locks_and_the_kind_may_be_chosen(here: Town) -> None:
    offer_id = create(here, "--buy", "--buyer-deposit", "0")
    asked = take(here.taker, offer_id, "--escrow-kind", "wsh-2of3").stderr
    assert "You sell 0.0050 BTC for 306.20 EUR" in asked
    assert "  you lock  0.00575 BTC: 0.0050 to sell and a deposit of 0.00075" in asked
    assert "  they lock nothing: no deposit of the buyer" in asked
    assert "  escrow    2 of 3\n" in asked
    refused = take(here.taker, offer_id, "--escrow-kind", "tr-2of3", "--yes")
    assert refused.exit_code == 65
    assert refused.stderr == "error: escrow_kind: is none of wsh-2of3, wsh-2of3-backup\n"


def test_a_buyer_without_a_deposit_reads_so(here: Town) -> None:
    offer_id = create(here, "--sell", "--buyer-deposit", "0")
    asked = take(here.taker, offer_id).stderr
    assert "  you lock  nothing: this offer asks no deposit of the buyer\n" in asked
    assert "  fee now   none: you bring no coin\n" in asked
    assert " 0-15% " in here.taker(offer, "list", "--cur", "EUR").stdout


def test_the_figures_are_in_the_json_of_the_quote(here: Town) -> None:
    offer_id = create(here)
    found = here.taker.client().post(
        "/v1/quotes", offer_id=offer_id, amount_sat=500_000, fiat_minor=30_000
    )
    assert len(bytes.fromhex(found.pop("terms"))) == 16
    assert found | {"price": 0} == {
        "role": "buyer",
        "amount_sat": 500_000,
        "fiat_minor": 30_000,
        "currency": "EUR",
        "exponent": 2,
        "price": 0,
        "offer_price": 61_240_000_000,
        "method": "CUSTOM",
        "account": "",
        "escrow_kind": "wsh-2of3-backup",
        "escrow_kinds": ["wsh-2of3-backup", "wsh-2of3"],
        "deposit_buyer_sat": 75_000,
        "deposit_seller_sat": 75_000,
        "locked_sat": 75_000,
        "rate": 2,
        "funding_fee_sat": 252,
        "payout_fee_sat": 410,
        "returned_sat": 574_590,
        "arbiters": 3,
        "arbiter_fee_low_sat": 1500,
        "arbiter_fee_high_sat": 1500,
        "depth": 1,
        "step_s": 60,
        "signing_s": 600,
        "ack_s": 172_800,
        "period_s": 345_600,
        "reply_s": 345_600,
        "verdict_s": 432_000,
        "backup_blocks": 144 * 34,
        "reference": 0,
        "margin_bp": None,
    }
    assert found["price"] == 60_000_000_000
    assert here.taker(trade, "list").stdout == ""


def test_take_at_the_price(here: Town) -> None:
    taken = take(here.taker, create(here), "--yes", "--json")
    assert taken.exit_code == 0, taken.stderr
    assert loads(taken.stdout)["fiat_minor"] == 30_620


def test_a_policy_agrees_and_the_offer_is_taken_at_once(here: Town) -> None:
    offer_id = create(here, "--sell", "--accept-within", "1")
    taken = take(here.taker, offer_id, "--price", "60700", "--yes", "--json")
    assert taken.exit_code == 0, taken.stderr
    answer = loads(taken.stdout)
    assert (answer["state"], answer["fiat_minor"]) == ("Taken", 30_350)
    assert answer["trade"]["trade_id"] == answer["trade_id"]
    assert answer["trade"]["fiat_minor"] == 30_350
    found = here.until(here.maker, answer["proposal_id"], "Taken")
    assert found["trade_id"] == answer["trade_id"]


def test_a_policy_names_its_limit_and_the_taker_accepts(here: Town) -> None:
    offer_id = create(here, "--sell", "--accept-within", "1", "--counter-within", "5")
    asked = take(here.taker, offer_id, "--price", "60000", "--yes")
    assert asked.exit_code == 0, asked.stderr
    short = asked.stdout.split()[1]
    assert asked.stdout.splitlines()[:2] == [
        f"Proposal {short}   BUY 0.0050 BTC for 303.14 EUR",
        "  state     Countered, round 1 of 3",
    ]
    assert "  price     60,628.00 EUR/BTC, the offer's 61,240.00 -1.00 %\n" in asked.stdout
    assert "  said      you proposed 300.00 EUR\n            the maker named 303.14 EUR\n" in (
        asked.stdout
    )
    accepted = here.taker(proposal, "accept", short, "--yes")
    assert accepted.exit_code == 0, accepted.stderr
    assert "You buy 0.0050 BTC for 303.14 EUR" in accepted.stderr
    assert "it became a trade: p2pnode trade show" in " ".join(accepted.stdout.split())


def test_by_hand_with_a_counter_a_second_round_and_a_refusal(here: Town) -> None:
    offer_id = create(here)
    asked = take(here.taker, offer_id, "--fiat", "300", "--wait", "0", "--yes", "--json")
    first = loads(asked.stdout)
    assert (first["state"], first["fiat_minor"], first["round"]) == ("Proposed", 30_000, 1)
    short = first["proposal_id"][:8]
    here.until(here.maker, first["proposal_id"], "Proposed")
    listed = here.maker(proposal, "list").stdout
    assert listed.splitlines()[1].split() == [
        *(short, "maker", "sell", "0.0050", "300.00", "EUR", "60,000.00", "Proposed")
    ]
    assert f"p2pnode proposal accept {short}" in listed
    assert max(map(len, listed.splitlines())) <= 80
    low = here.maker(proposal, "counter", short, "--fiat", "299.99", "--yes")
    assert (low.exit_code, low.stderr) == (
        70,
        "error: fiat_minor: is worse for you than what is proposed\n",
    )
    assert here.maker(proposal, "counter", short, "--price", "61000", "--yes").exit_code == 0
    here.until(here.taker, first["proposal_id"], "Countered")
    second = here.taker(proposal, "counter", short, "--price", "60500", "--yes", "--json")
    assert loads(second.stdout)["round"] == 2
    here.until(here.maker, first["proposal_id"], "Proposed")
    agreed = here.maker(proposal, "accept", short, "--yes")
    assert agreed.exit_code == 0, agreed.stderr
    assert "You sell 0.0050 BTC for 302.50 EUR" in agreed.stderr
    here.until(here.taker, first["proposal_id"], "Countered")
    gone = here.taker(proposal, "refuse", short, "--reason", "changed my mind")
    assert gone.exit_code == 0
    told = here.until(here.maker, first["proposal_id"], "Declined")
    assert "changed my mind" in told["next"]
    late = here.taker(proposal, "accept", short, "--yes")
    assert late.exit_code == 70
    assert late.stderr.splitlines()[-1].startswith("error: there is no sum to accept")


def test_ten_minutes(here: Town) -> None:
    offer_id = create(here)
    asked = take(here.taker, offer_id, "--fiat", "300", "--wait", "0", "--yes", "--json")
    short = loads(asked.stdout)["proposal_id"]
    here.until(here.maker, short, "Proposed")
    here.pass_time(600)
    late = here.maker(proposal, "counter", short, "--fiat", "301", "--yes")
    assert late.exit_code == 70
    assert "this negotiation" in late.stderr
    here.until(here.maker, short, "Lapsed")
    here.until(here.taker, short, "Lapsed")


def test_answers_are_edited_and_stay_private(here: Town) -> None:
    offer_id = create(here)
    edit = ("edit", offer_id[:8], "--accept-within", "0.5", "--counter-within", "3")
    changed = here.maker(offer, *edit, "--otherwise", "refuse")
    assert changed.exit_code == 0, changed.stderr
    assert (
        "  proposals agreed to within 0.50 % below the price, answered with that limit\n"
        "            within 3.00 %, else no\n"
    ) in changed.stdout
    seen = loads(here.taker(offer, "show", offer_id, "--json").stdout)
    assert not {"accept_bp", "counter_bp", "otherwise"} & seen.keys()
    refused = take(here.taker, offer_id, "--price", "50000", "--yes")
    assert refused.exit_code == 0
    assert "  state     Declined, round 1 of 3\n" in refused.stdout
    foreign = here.taker(offer, *edit)
    assert foreign.exit_code == 70


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--price", "61000", "--fiat", "300"), 2, "say --price or --fiat, one of the two"),
        (("--price", "0"), 2, "price: is zero or too large"),
        (("--price", "-1"), 65, "price: '-1' is not a decimal number"),
        (("--fiat", "1.001"), 65, "fiat: has more than 2 decimals"),
        (("--fiat", "0"), 2, "fiat: is zero or too large a sum"),
        (("--fiat", "999999999999999.00"), 2, "fiat: is zero or too large a sum"),
        (("--price", "0.0000001"), 65, "price: has more than 6 decimals"),
        (("--price", "0.01"), 2, "fiat: is zero or too large a sum"),
        (("--fiat", "153.09"), 65, "fiat_minor: is not"),
        (("--fiat", "612.41"), 65, "fiat_minor: is not"),
        (("--price", "1e4"), 65, "price: "),
    ],
)
def test_bad_sums_are_one_sentence(
    here: Town, more: tuple[str, ...], code: int, words: str
) -> None:
    refused = take(here.taker, create(here), *more, "--yes", "--json")
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert words in loads(refused.stderr)["error"]["message"]
    assert here.taker(proposal, "list").stdout == ""
