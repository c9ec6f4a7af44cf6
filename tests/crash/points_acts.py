"""The stretches of a trade whose points are tried: what each user says, and how it must end.

Sums are by docs/wire/transactions.md: the lower rate, inputs and outputs at their heaviest.
"""

from pathlib import Path
from typing import Any

from points_chain import Ledger
from points_node import Points, seeded
from points_world import ARBITERS, TRADERS, Base, World, play
from trade_fakes import disclose
from trade_kit import AMOUNT

from escrow import model
from escrow.messages import Kind, Message
from escrow.payloads import Statement
from escrow.script import p2wpkh

COIN = 3_000_000
REPLY_BLOCKS = 96 * 6 + 12  # by the median time


def begin(folder: Path) -> Base:
    """Three arbiters have put their records; maker and taker have coins."""
    ledger = Ledger()
    ledger.mine(200)
    for n, name in enumerate(TRADERS * 2):
        ledger.coin(seeded(name)[3][0], COIN, n)
    ledger.mine(40)
    empty = Base(folder / "empty", ledger, [], {}, {}, {}, ledger.blocks[-1].time)

    async def register(world: World) -> None:
        for name in ARBITERS:
            await world[name].exchange.arbiter.register(1000, 1000)

    (folder / "register").mkdir(parents=True)
    made = play(empty, (*TRADERS, *ARBITERS), register, Points(), folder / "register",
                folder / "begun")  # fmt: skip
    assert made is not None
    assert len(made.records) == len(ARBITERS)
    return made


async def take(world: World, *, maker_sells: bool) -> None:
    """The taker takes the maker's offer."""
    taker = world["taker"]
    terms = world.offer(maker_sells=maker_sells)
    world.base.names = {
        "seller": "maker" if maker_sells else "taker",
        "buyer": "taker" if maker_sells else "maker",
    }

    def taken() -> bool:
        rows = taker.journal.rows("trader")
        world.trade_id = rows[0].trade_id if rows else b""
        return bool(rows)

    async def do() -> None:
        await taker.exchange.opening.take(terms, AMOUNT, disclose("taker", bytes(32)))

    await world.user("taker", do, taken)


async def opening(world: World, *, maker_sells: bool = True) -> None:
    """From a TAKE to a funding that both have published."""
    await take(world, maker_sells=maker_sells)
    await world.eventually(lambda: world.both_are("Broadcast") and world.ledger.pool)
    contract = world.contract()
    world.base.names |= {
        "arbiter": world.post.names[contract.arbiter],
        "runner_up": world.post.names[contract.runner_up],
    }


async def half_signed(world: World) -> None:
    """The buyer's signature leaves, and the seller never has it."""

    async def lose(frame: Any) -> list[bytes]:
        return [] if frame.kind is Kind.WITNESS else [frame.raw]

    world.post.hook = lose
    await take(world, maker_sells=True)
    await world.eventually(lambda: world.said("buyer", Kind.WITNESS))


async def respent(world: World) -> None:
    """Ten minutes later the buyer spends his coin otherwise; the funding can never be."""
    funding = world["taker"].facts(world.trade_id).funding
    assert funding is not None
    world.clock.time += 660
    await world.eventually(lambda: world.ledger.pool)
    await world.mine(6)
    await world.eventually(lambda: world.at("buyer") == "Void")
    (home,) = {t for i in funding.tx.inputs for t in world.ledger.spenders(i.outpoint)}
    (out,) = world.ledger.known[home].outputs
    assert out.script in world["taker"].scripts
    assert out.value > COIN - 10_000
    assert not world["taker"].locks.locked()


async def funded(world: World) -> None:
    """From the mempool to a buyer who may pay."""
    await world.mine()
    await world.eventually(lambda: world.both_are("Funded") and world.heard("seller", Kind.ACK))


async def paid(world: World) -> None:
    """The buyer pays."""
    await world.say("buyer", lambda: model.SayPaid("sent"), lambda: world.at("buyer") != "Funded")
    await world.eventually(lambda: world.both_are("Paid"))


async def released(world: World) -> None:
    """The seller has the money, and the payout is mined."""
    await world.say(
        "seller", model.SayReceived, lambda: world.at("seller") not in ("Funded", "Paid")
    )
    await world.paid_out()


async def settled(world: World) -> None:
    """Funded to released in one."""
    await funded(world)
    await paid(world)
    await released(world)
    contract = world.contract()
    fee = payout_fee(contract.rate, 530, contract.script_b, contract.script_s)
    world.check_spend(
        (contract.script_b, contract.amount_sat + contract.dep_b - fee),
        (contract.script_s, contract.dep_s),
    )


async def agreed(world: World) -> None:
    """They agree on a refund: each gets what he locked."""
    contract = world.contract()
    await world.say(
        "buyer",
        lambda: model.AskSplit(contract.dep_b, "the bank is closed"),
        lambda: world.said("buyer", Kind.ASK),
    )
    await world.eventually(lambda: world.heard("seller", Kind.ASK))
    await world.say("seller", lambda: model.AnswerAsk(True), lambda: world.said("seller", Kind.OK))
    await world.paid_out()
    fee = payout_fee(contract.rate, 530, contract.script_b, contract.script_s)
    world.check_spend(
        (contract.script_b, contract.dep_b),
        (contract.script_s, contract.amount_sat + contract.dep_s - fee),
    )


def payout_fee(rate: int, input_weight: int, *scripts: bytes) -> int:
    """docs/wire/transactions.md: the smaller rate, weights of the heaviest signatures."""
    weight = 42 + input_weight + sum(4 * (9 + len(script)) for script in scripts)
    return -(-rate * weight // 4)


def judged_by(world: World, role: str, sender: str) -> bool:
    """Tell whether a trader has told the arbiter in that role his side."""
    judge, who = world[world.base.names[role]].id, world[world.base.names[sender]]
    return any(
        m.kind is Kind.DISPUTE or (m.kind is Kind.STATEMENT and _words(m))
        for m in who.journal.messages(world.trade_id)
        if (m.sender, m.recipient) == (who.id, judge)
    )


def _words(message: Message) -> str:
    """Papers alone are a STATEMENT too, which the node makes by itself."""
    return Statement.from_wire(message.payload).statement


async def disputed(world: World) -> None:
    """The buyer calls the arbiter: he paid; the seller answers that nothing came."""
    judge = world.contract().arbiter

    def dispute() -> model.Event:
        facts = world[world.base["buyer"]].facts(world.trade_id)
        return model.OpenDispute(facts.dispute("I paid", judge), judge)

    await world.say("buyer", dispute, lambda: judged_by(world, "arbiter", "buyer"))
    await world.eventually(lambda: world.heard("seller", Kind.NOTICE))
    await answered(world, "arbiter")


async def answered(world: World, role: str) -> None:
    """Both tell their side; the case is ready to be ruled."""
    judge = world[world.base[role]].id
    for party in ("seller", "buyer"):  # who has called the arbiter has told it

        def answer(party: str = party) -> model.Event:
            facts = world[world.base[party]].facts(world.trade_id)
            return model.MakeStatement(facts.statement(f"the {party} is right", judge), judge)

        await world.say(
            party,
            answer,
            lambda party=party: judged_by(world, role, party),  # type: ignore[misc]
        )
    if role == "runner_up":  # R6: he waits for all replies
        await world.mine(REPLY_BLOCKS)
    await world.eventually(lambda: world.at(role) == "Hearing")


async def decided(world: World, role: str, buyer_sat: int, *, accepted: bool = False) -> None:
    """The arbiter rules, the buyer takes less than he claims if he must, the payout is mined."""
    await world.say(
        role,
        lambda: model.Decide(buyer_sat, "so it is"),
        lambda: world.at(role) in ("RuledCase", "ClosedCase"),
    )
    if accepted:
        await world.eventually(lambda: world.at("buyer") == "Ruled")
        await world.say("buyer", model.AcceptVerdict, lambda: completed(world))
    await world.paid_out()
    await world.eventually(lambda: world.at(role) == "ClosedCase")


def completed(world: World) -> bool:
    """Tell whether the buyer's node holds a payout, or has taken his word for it."""
    state = world[world.base["buyer"]].state(world.trade_id)
    return isinstance(state, model.Closed) or bool(state.raw or state.accepted)  # type: ignore[union-attr]


async def ruled(world: World) -> None:
    """A dispute and its verdict: the buyer gets the amount, the arbiter's fee is the seller's."""
    contract = world.contract()
    await disputed(world)
    await decided(world, "arbiter", contract.amount_sat + contract.dep_b)
    arbiter_script = p2wpkh(contract.key_a)
    fee = payout_fee(contract.rate, 530, contract.script_b, contract.script_s, arbiter_script)
    world.check_spend(
        (contract.script_b, contract.amount_sat + contract.dep_b - fee),
        (contract.script_s, contract.dep_s - contract.fee_a),
        (arbiter_script, contract.fee_a),
    )


async def ruled_by_the_second(world: World) -> None:
    """The arbiter is gone: at the timelock's end the nodes call the runner-up, who rules."""
    contract = world.contract()
    await world.eventually(lambda: world.at("runner_up") == "Noticed")
    await answered(world, "runner_up")
    await decided(world, "runner_up", contract.escrow_sat // 2, accepted=True)
    arbiter_script = p2wpkh(contract.key_a2)
    fee = payout_fee(contract.rate, 533, contract.script_b, contract.script_s, arbiter_script)
    half = contract.escrow_sat // 2
    rest = contract.escrow_sat - half - contract.fee_a2
    buyer_pays = half >= rest
    world.check_spend(
        (contract.script_b, half - fee * buyer_pays),
        (contract.script_s, rest - fee * (not buyer_pays)),
        (arbiter_script, contract.fee_a2),
    )


async def timelocked(world: World) -> None:
    """Nobody answers until the timelock's end; the nodes call the arbiter, who is gone."""
    contract = world.contract()
    await world.mine(contract.n // 2)
    await world.eventually(
        lambda: any(world.said(role, Kind.DISPUTE) for role in ("buyer", "seller"))
    )
    await world.mine(contract.n // 2)
    await world.eventually(
        lambda: all(
            any(
                m.recipient == contract.runner_up for m in world[n].journal.messages(world.trade_id)
            )
            for n in TRADERS
        )
    )
