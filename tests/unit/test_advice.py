"""Advice over every position of the golden tables: never dumb, never wrong about what is allowed.

A command that is named is one that the command line takes, and one that the machine does not
refuse in this state; a docket's preview refuses exactly what the machine refuses.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from trade_facts import MTP, NOW, TIP, Play, identity
from trade_tables import CASES, DEEP, POSITIONS, CasePosition, Position, told, trader_roles

import cli
from escrow import docket, hearing
from escrow.case import Case
from escrow.confirm import verdict_due
from escrow.contract import ACCOUNT_S, ACK_S
from escrow.deadlines import FAR, HOURS, of_case, of_trade, reminders, ruling_due
from escrow.duties import duties
from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import (
    AcceptVerdict,
    AnswerAsk,
    ArbiterLost,
    AskSplit,
    Decide,
    Disputed,
    Event,
    Funded,
    Hearing,
    OpenDispute,
    SayPaid,
    SayReceived,
    SignSettle,
    State,
    WithdrawAsk,
)
from escrow.payloads import Notice, NotPaid, Statement
from escrow.payout import payout_rates
from escrow.shell_trades import trader_step
from p2pnode.app.advice import advise
from p2pnode.app.advice_case import advise_arbiter
from p2pnode.base.errors import LocalFault
from p2pnode.base.units import moment

DAY = 86_400


def places() -> list[Any]:
    return list(_places())


def _places() -> Iterator[Any]:
    for position in POSITIONS:
        for role, maker_is_seller, name in trader_roles():
            if position.who and position.who not in role:
                continue
            yield pytest.param(position, maker_is_seller, name, id=f"{position.name}, {role}")


def known(position: Position, maker_is_seller: int, name: str) -> Facts:
    play = told(position, maker_is_seller, name)
    return play.facts(identity(name), position.view, lacks=position.lacks)


def command(text: str) -> list[str]:
    """The words of the command that advice ends in, made whole, or nothing."""
    found = re.search(r"p2pnode (.*)$", text)
    filled = found[1].replace("…", "x").replace("BTC", "0.001").replace("FILE", "") if found else ""
    return filled.split()


def event_of(words: list[str], facts: Facts) -> Event | None:
    """What a command makes the machine hear."""
    match words[:2]:
        case ["trade", "pay-sent"]:
            return SayPaid("")
        case ["trade", "received"]:
            return SayReceived()
        case ["trade", "agree"]:
            return AnswerAsk(agree=True)
        case ["trade", "ask"] if "--withdraw" in words:
            return WithdrawAsk()
        case ["trade", "ask"] if "--refund" in words:
            return AskSplit(facts.contract.dep_b, "")
        case ["trade", "ask"]:
            return AskSplit(facts.contract.escrow_sat // 2, "")
        case ["dispute", "open"]:
            judge = facts.contract.arbiter
            return OpenDispute(facts.dispute("x", judge), judge)
        case ["dispute", "accept"]:
            return AcceptVerdict()
    return None


@pytest.mark.parametrize(("position", "maker_is_seller", "name"), places())
def test_every_position_has_advice_that_its_machine_allows(
    position: Position, maker_is_seller: int, name: str
) -> None:
    facts = known(position, maker_is_seller, name)
    text = advise(position.state, facts)
    assert text != "wait"
    assert "\n" not in text
    assert len(text) < 400
    words = command(text)
    if not words:
        return
    yes = [] if words[:2] in (["dispute", "answer"], ["dispute", "evidence"]) else ["--yes"]
    ran = CliRunner().invoke(cli.main, [*words, *yes, "--data-dir", "/nonexistent"])
    assert ran.exit_code == 69, (words, ran.stderr)  # no daemon: its words were right
    if event := event_of(words, facts):
        trader_step(position.state, event, facts, NOW)  # raises what it refuses


def test_the_positions_name_every_command_that_advice_can() -> None:
    """A branch that no position reaches would go untested."""
    named = set()
    for position, maker_is_seller, name in (p.values for p in places()):
        words = command(advise(position.state, known(position, maker_is_seller, name)))
        named.add(" ".join(words[:2]))
    play = Play().acknowledge()
    play.call_arbiter(play.seller)
    asked = command(advise(Disputed(MTP), play.facts(play.buyer, DEEP)))
    named.add(" ".join(asked[:2]))
    assert named >= {
        "trade pay-sent",
        "trade received",
        "trade agree",
        "trade ask",
        "dispute open",
        "dispute answer",
        "dispute evidence",
        "dispute accept",
    }


@pytest.mark.parametrize(("position", "maker_is_seller", "name"), places())
def test_nobody_is_told_to_pay_against_the_machine(
    position: Position, maker_is_seller: int, name: str
) -> None:
    facts = known(position, maker_is_seller, name)
    if not advise(position.state, facts).startswith(("pay ", "answer: ")):
        try:
            trader_step(position.state, SayPaid(""), facts, NOW)
        except LocalFault:
            return
        pytest.fail("the machine would let him pay, and he is not told to")


# ------------------------------------------------------------------ dates


def funded(**change: int) -> Facts:
    play = Play().acknowledge()
    return play.facts(play.buyer, replace(DEEP, **change))


def test_who_is_called_is_told_to_answer_and_by_when() -> None:
    play = Play().acknowledge()
    play.call_arbiter(play.seller)
    told_to = advise(Disputed(MTP), play.facts(play.buyer, DEEP))
    due = moment(MTP + play.contract.reply_s)
    assert told_to.startswith(f"do not pay; tell the arbiter your side by {due}: p2pnode dispute")
    papers = Statement(statement="", messages=play.papers(), rulings=())  # by the node itself
    play.say(play.buyer, papers, play.arbiter.node_id)
    assert advise(Disputed(MTP), play.facts(play.buyer, DEEP)) == told_to
    play.say(play.buyer, play.statement(), play.arbiter.node_id)
    after = advise(Disputed(MTP), play.facts(play.buyer, DEEP))
    ruling = verdict_due(play.contract, MTP, DEEP)
    assert after.startswith(f"wait for the arbiter's verdict, due by {moment(ruling)}; do not pay")


def test_a_funded_trade_is_due_by_the_periods_end() -> None:
    facts = funded()
    (position,) = (p for p in POSITIONS if p.name == "Funded, ACK told")
    (due,) = of_trade(position.state, facts)
    assert (due.name, due.at_mtp) == ("payment", facts.contract.period_end(MTP))
    unseen = funded(funding_height=0)
    assert of_trade(position.state, unseen) == ()


@pytest.mark.parametrize("state", [Funded(), Disputed(MTP), ArbiterLost(MTP)])
def test_after_not_paid_both_wait_for_the_refund_that_the_nodes_make(state: State) -> None:
    play = Play().acknowledge()
    play.call_arbiter(play.seller)
    play.say(play.buyer, NotPaid(note="the bank refuses"))
    for who in (play.buyer, play.seller):
        facts = play.facts(who, DEEP)
        text = advise(state, facts)
        assert text.startswith("wait: ")
        assert "trade ask" not in text
        words = command(text)
        assert bool(words) == isinstance(state, Funded)
        (sign,) = duties(state, play.facts(play.buyer, DEEP), NOW)[:1]
        assert isinstance(sign, SignSettle)  # what both are told to wait for


def second_hears(*, words: str) -> Facts:
    """The buyer told the first arbiter this, who is lost; the runner-up has taken the case."""
    play = Play().acknowledge()
    play.call_arbiter(play.seller)
    if words:
        statement = replace(play.statement(), statement=words)
        play.say(play.buyer, statement, play.arbiter.node_id)
        play.say(play.buyer, replace(statement, statement=""), play.arbiter.node_id)  # papers
    known = play.facts(play.buyer, DEEP)
    told = known.last_words(play.arbiter.node_id)
    assert told == words
    second = play.runner_up
    called = play.say(play.buyer, known.dispute(told, second.node_id), second.node_id)
    play.say(
        second,
        Notice(dispute_id=called.id, opener=play.buyer.node_id, statement=""),
        play.buyer.node_id,
    )
    return play.facts(play.buyer, DEEP)


def test_the_runner_ups_dates_are_told_like_the_arbiters() -> None:
    silent, spoken = second_hears(words=""), second_hears(words="I have paid")
    contract = silent.contract
    (notice,) = silent.all(contract.runner_up, Kind.NOTICE)
    at = silent.eyes.mtp(max(notice.tip_height, DEEP.funding_height or 0))
    ruling = verdict_due(contract, at, DEEP)
    dates = [(d.name, d.at_mtp) for d in of_trade(ArbiterLost(), silent)]
    assert dates == [("reply", at + contract.reply_s), ("ruling", ruling)]
    assert f"tell him your side by {moment(at + contract.reply_s)}" in advise(ArbiterLost(), silent)
    assert [d.name for d in of_trade(ArbiterLost(), spoken)] == ["ruling"]
    assert f"runner-up's verdict by {moment(ruling)}" in advise(ArbiterLost(), spoken)
    (due,) = of_trade(ArbiterLost(), spoken)
    given = {("ruling", hours) for hours in HOURS}  # the first arbiter's
    assert reminders([due], due.at_mtp - 1, given)
    ahead = replace(DEEP, tip=notice.tip_height - 1)
    assert of_trade(ArbiterLost(), replace(silent, view=ahead)) == ()


def test_details_are_due_a_day_after_the_funding_and_their_acknowledgement_two() -> None:
    play = Play().fund()
    before = play.facts(play.buyer, DEEP)
    assert before.one(play.seller.node_id, Kind.ACCOUNT) is None
    (details, _) = of_trade(Funded(), before)
    assert (details.name, details.at_mtp) == ("details", MTP + ACCOUNT_S)
    (ack, _) = of_trade(Funded(), Play().tell_accounts().facts(play.buyer, DEEP))
    assert (ack.name, ack.at_mtp) == ("details", MTP + ACK_S)


# ------------------------------------------------------------------ the docket


def heard(position: CasePosition, **change: Any) -> Case:
    play = Play()
    position.tell(play)
    return play.case(replace(DEEP, **change), position.judge(play))


@pytest.mark.parametrize("position", CASES, ids=lambda p: p.name)
def test_every_case_has_advice_and_says_what_lacks(position: CasePosition) -> None:
    case = heard(position)
    text = advise_arbiter(position.state, case)
    assert text != "wait"
    if words := command(text):
        ran = CliRunner().invoke(cli.main, [*words, "--yes", "--data-dir", "/nonexistent"])
        assert ran.exit_code == 69, (words, ran.stderr)
    lacks = docket.lacking(position.state, case)
    assert all(len(one) < 200 for one in lacks)
    due = ruling_due(position.state, case)
    assert (due < FAR) == bool(of_case(position.state, case))


@pytest.mark.parametrize("position", CASES, ids=lambda p: p.name)
@pytest.mark.parametrize("later", [0, 30 * DAY])
def test_a_preview_refuses_what_the_machine_refuses(position: CasePosition, later: int) -> None:
    case = heard(position, mtp=DEEP.mtp + later, tip=TIP + (200 if later else 4))
    contract = case.contract
    most = contract.escrow_sat - case.fee
    for buyer_sat in (0, contract.dep_b, contract.amount_sat + contract.dep_b - case.fee, most):
        seen = docket.preview(position.state, case, buyer_sat)
        refused = ""
        try:
            hearing.step(position.state, Decide(buyer_sat, "preview"), case)
        except LocalFault as error:
            refused = str(error)
        assert seen.refused == refused
        assert [rate for rate, _ in seen.payouts] == list(payout_rates(contract))
        for _, payout in seen.payouts:
            paid = (payout.buyer_sat_paid, payout.seller_sat_paid, payout.arbiter_sat_paid)
            assert sum(paid) + payout.fee_sat == contract.escrow_sat
            assert [o.value for o in payout.tx.outputs] == [value for value in paid if value]


def test_a_case_without_the_others_words_lacks_them_and_time() -> None:
    (position,) = (p for p in CASES if p.name == "Noticed")
    lacks = docket.lacking(position.state, heard(position))
    assert any(one.endswith("'s statement") for one in lacks)
    assert any("not before" in one for one in lacks)
    late = heard(position, mtp=DEEP.mtp + 60 * DAY)
    assert not any("not before" in one for one in docket.lacking(Hearing(MTP), late))
    shallow = heard(position, tip=TIP, funding_height=0)
    assert "confirmations of the escrow" in docket.lacking(position.state, shallow)
