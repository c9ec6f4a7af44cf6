"""The draw: vectors from a second implementation, fairness, who counts, and when size is judged."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import draw_reference as ref
import pytest
from bond_kit import bonded, eyes_of
from trade_facts import ANCHOR, EYES, FRESH, NET, NOW, FakeEyes, Play, h, identity, record

from escrow import opening
from escrow.anchor import Anchor, Candidate, newest
from escrow.arbiters import ArbiterRecord
from escrow.bond import Eyes
from escrow.draw import (
    commit,
    conclude,
    listed_records,
    listing,
    pick,
    root,
    seed_of,
    shortlist,
    work_of,
)
from escrow.keys import arbiter_path
from escrow.messages import Kind
from escrow.model import Aborted, Contracting, Drawing, Received, Taking
from escrow.payloads import Reveal, decode
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.networks import NETWORKS

VECTORS = Path(__file__).parents[1] / "vectors" / "draw.json"
TRADERS = frozenset((identity("maker").node_id, identity("taker").node_id))
AMOUNT = 2_000_000


# ------------------------------------------------------------------ vectors, made by draw_reference


def made(what: str, number: int) -> bytes:
    return hashlib.sha256(f"{what} {number}".encode()).digest()


def pool_of(number: int) -> list[ref.Entry]:
    """Without bonds, with bonds, two bonds of one node, two nodes of one bond key, both mixed."""
    shape = number % 4
    if shape == 0:
        nodes = [made(f"node {n}", number) for n in range(3 + number % 5)]
        return [ref.Entry(node + b"\xff" * 4, 1, node, b"") for node in nodes]
    found = []
    for n, weight in enumerate((1, 2, 3, 1_000_000, 2**50, 7 * 10**14)):
        node = made(f"node {n % 3 if shape == 1 else n}", number)
        key = b"\x02" + made(f"bond key {n % 3 if shape == 2 else n}", number)
        if shape == 3 and n < 2:
            found.append(ref.Entry(node + b"\xff" * 4, 1, node, b""))
        else:
            txid = made(f"bond {n}", number)
            found.append(ref.Entry(txid + n.to_bytes(4, "big"), weight, node, key))
    return found


def draw_case(network: str, number: int) -> dict[str, Any]:
    pool = sorted(pool_of(number), key=lambda e: e.outpoint)
    listed = [(entry.outpoint, made("record", number)) for entry in pool]
    take, draw, nonce = (made(what, number) for what in ("take", "draw", "nonce"))
    seed = ref.H(network, "seed", [take, draw, nonce])
    arbiter, runner_up = ref.walk(network, seed, pool)
    return {
        "network": network,
        "take_id": take.hex(),
        "draw_id": draw.hex(),
        "nonce": nonce.hex(),
        "commitment": ref.H(network, "nonce", [nonce]).hex(),
        "listed": [[outpoint.hex(), record_id.hex()] for outpoint, record_id in listed],
        "root": ref.H(network, "arbiters", listed).hex(),
        "seed": seed.hex(),
        "pool": [[e.outpoint.hex(), e.weight, e.node.hex(), e.bond_key.hex()] for e in pool],
        "arbiter": arbiter.outpoint.hex(),
        "runner_up": runner_up.outpoint.hex(),
        "arbiter_key_path": ref.key_path(network, seed, arbiter.outpoint),
    }


def bond_cases() -> list[dict[str, Any]]:
    """Script, output and weight of bonds; times on both sides of a script number's fifth byte."""
    key = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    times = (500_000_000, 1_798_761_600, 2**31 - 1, 2**31, 2**32 - 1)
    found = []
    for lock_time in times:
        for before in (0, 1, 86_400 * 90, ref.YEAR - 1, ref.YEAR, ref.YEAR + 1):
            sat = 12_345_678 + before % 97
            found.append(
                {
                    "key": key.hex(),
                    "lock_time": lock_time,
                    "script": ref.bond_script(lock_time, key).hex(),
                    "output": ref.bond_output(lock_time, key).hex(),
                    "sat": sat,
                    "mtp": lock_time - before,
                    "weight": ref.weight(sat, lock_time, lock_time - before),
                }
            )
    return found


class Stand:
    """As much of a record as the walk needs."""

    def __init__(self, outpoint: str, node: str, bond_key: str) -> None:
        self.outpoint, self.node_id = bytes.fromhex(outpoint), bytes.fromhex(node)
        self.bond = type("B", (), {"key": bytes.fromhex(bond_key)})() if bond_key else None


def test_the_vectors_are_the_second_implementations() -> None:
    cases = [draw_case(network, n) for network in ("sandbox", "main") for n in range(8)]
    vectors = {"draws": cases, "bonds": bond_cases()}
    if os.environ.get("P2PNODE_RENEW"):
        VECTORS.write_text(json.dumps(vectors, indent=1) + "\n")
    assert json.loads(VECTORS.read_text()) == vectors


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["draws"])
def test_the_node_draws_as_the_vectors_say(case: dict[str, Any]) -> None:
    network = NETWORKS[case["network"]]
    take, draw, nonce = (bytes.fromhex(case[n]) for n in ("take_id", "draw_id", "nonce"))
    listed = tuple((bytes.fromhex(p), bytes.fromhex(i)) for p, i in case["listed"])
    assert commit(network, nonce).hex() == case["commitment"]
    assert root(network, listed).hex() == case["root"]
    seed = seed_of(network, take, draw, nonce)
    assert seed.hex() == case["seed"]
    pool = [Candidate(Stand(p, n, k), w) for p, w, n, k in case["pool"]]  # type: ignore[arg-type]
    arbiter, runner_up = pick(network, seed, pool)
    assert arbiter.outpoint.hex() == case["arbiter"]
    assert runner_up.outpoint.hex() == case["runner_up"]
    assert list(arbiter_path(seed, arbiter.outpoint, network)) == case["arbiter_key_path"]


def test_a_whole_trade_draws_what_the_second_implementation_draws() -> None:
    play = Play().open()
    take, reveal = play.one(play.taker, Kind.TAKE), play.one(play.taker, Kind.REVEAL)
    draw = play.one(play.maker, Kind.DRAW)
    seed = ref.H("sandbox", "seed", [take.id, draw.id, h("nonce of taker")])
    pool = [ref.Entry(record(n).outpoint, 1, record(n).node_id, b"") for n in range(5)]
    assert play.drawn.seed == seed
    assert [play.drawn.arbiter.outpoint, play.drawn.runner_up.outpoint] == [
        entry.outpoint for entry in ref.walk("sandbox", seed, pool)
    ]
    assert play.drawn.eligible == 5
    assert reveal.trade_id == take.id


def _three(play: Play) -> list[tuple[Any, Kind]]:
    return [(play.taker, Kind.TAKE), (play.maker, Kind.DRAW), (play.taker, Kind.REVEAL)]


# ------------------------------------------------------------------ who counts


def at(
    height: int = ANCHOR, *, amount: int = AMOUNT, more: bytes = b"", eyes: Eyes = EYES
) -> Anchor:
    traders = TRADERS | {more} if more else TRADERS
    return Anchor(NET, height, amount, traders, eyes)


def test_freshness_is_judged_at_the_anchor_and_to_the_block() -> None:
    assert at().counts(record(0, ANCHOR - 6))
    assert not at().counts(record(0, ANCHOR - 5))
    far = ANCHOR + 100
    assert at(far).counts(record(0, far - 288))
    assert not at(far).counts(record(0, far - 289))


def test_a_record_of_another_chain_does_not_count() -> None:
    assert not at().counts(record(0, at_hash=h("another chain's block")))
    blind = FakeEyes()
    blind.block_hash = lambda height: None  # type: ignore[assignment,method-assign]
    assert not at(eyes=blind).counts(record(0))


def test_a_trader_is_not_his_own_arbiter() -> None:
    assert at().counts(record(0))
    assert not at(more=record(0).node_id).counts(record(0))
    for name in ("maker", "taker"):
        assert not at().counts(record(0, who=name))


def test_the_newest_record_of_a_bond_counts() -> None:
    old, new = record(0, FRESH - 30), record(0, FRESH)
    for order in ([old, new], [new, old]):
        assert newest(order) == {old.outpoint: new}
        assert listing(shortlist(at().candidates(order))) == listing([new])


def test_two_ids_of_one_height_put_the_bond_out() -> None:
    one, two = record(0), record(0, fee_base=2000)
    assert one.id != two.id
    for order in ([one, two], [two, one], [one, two, one]):
        assert newest(order) == {}
    later = record(0, FRESH + 1)
    assert newest([one, two, later]) == {later.outpoint: later}  # what is newer is not in doubt


def test_a_signature_malleated_makes_no_second_record() -> None:
    again = replace(record(0), key_sig=bytes(64))
    assert again.id == record(0).id
    assert newest([record(0), again]).keys() == {record(0).outpoint}


def made_union(*records: ArbiterRecord, **change: Any) -> list[bytes]:
    known = {r.id: r for r in records}
    found = listed_records(change.get("listed", listing(records)), known)
    return [c.record.outpoint for c in at().candidates(found)]


def test_the_union_is_ascending_and_skips_who_does_not_count() -> None:
    good = [record(n) for n in range(4)]
    too_new = record(4, ANCHOR - 5)
    foreign = record(5, at_hash=h("another chain"))
    assert made_union(*good, too_new, foreign, record(0, who="maker")) == sorted(
        r.outpoint for r in good
    )


def test_a_newer_but_ineligible_record_does_not_bring_the_older_back() -> None:
    """Else the same bond would be judged by two rules, one for each list."""
    old, too_new = record(0), record(0, ANCHOR - 2)
    assert made_union(old, too_new) == []


def test_a_listed_record_that_lacks_or_lies_elsewhere_is_named() -> None:
    with pytest.raises(InvalidRecord, match="records: lack"):
        made_union(record(0), listed=listing([record(1)]))
    misplaced = ((record(1).outpoint, record(0).id),)
    with pytest.raises(InvalidRecord, match="under another outpoint"):
        made_union(record(0), listed=misplaced)


# ------------------------------------------------------------------ size, before the seed


def test_a_set_is_large_enough_by_number_and_by_what_was_seen() -> None:
    three = [record(n) for n in range(3)]
    assert "2 eligible arbiters, 3 are needed" in at().size_fault(three[:2], 0)
    assert at().size_fault(three, 6) == ""
    assert "seen in 30 days" in at().size_fault(three, 7)


def test_half_of_the_weight_must_be_worth_the_amount() -> None:
    """Else a large trade would be left to the few whose bonds are large: perhaps one man's."""
    rich = [bonded(n) for n in range(3)]
    poor = [bonded(n, sat=AMOUNT - 1) for n in range(3, 12)]
    anchor = at(eyes=eyes_of(*rich, *poor))
    weigh = anchor.of_any_value().weigh
    assert 7 * weigh(poor[0]) < 3 * weigh(rich[0]) < 8 * weigh(poor[0])
    assert anchor.size_fault([*rich, *poor[:7]], 0) == ""
    assert "worth the amount" in anchor.size_fault([*rich, *poor[:8]], 0)
    few = anchor.size_fault([*rich[:2], *poor[:2]], 0)
    assert few == "2 eligible arbiters, 3 are needed; 2 more have a bond below the amount"


def test_what_was_seen_is_compared_with_the_weight_of_bonds_of_any_value() -> None:
    """A large trade is no eclipse."""
    found = [*(bonded(n) for n in range(3)), bonded(3, sat=AMOUNT - 1)]
    anchor = at(eyes=eyes_of(*found))
    whole = sum(c.weight for c in anchor.of_any_value().candidates(found))
    assert sum(c.weight for c in anchor.candidates(found)) < whole
    assert anchor.size_fault(found, 2 * whole) == ""
    assert "seen in 30 days" in anchor.size_fault(found, 2 * whole + 1)


SMALL = {"maker": (0, 1), "taker": (0, 1)}


def _hear(play: Play, who: Any, state: Any, seen_weight: int = 0) -> Any:
    message = play.messages[-1]
    facts = replace(play.facts(who), seen_weight=seen_weight)
    event = Received(message, decode(message.kind, message.payload))
    return opening.step(state, event, facts, NOW)


@pytest.mark.parametrize(("lists", "weight"), [(SMALL, 0), (None, 11)], ids=["few", "eclipsed"])
def test_the_taker_judges_the_size_before_he_opens_his_nonce(lists: Any, weight: int) -> None:
    play = Play(lists=lists)
    play.say(play.taker, play.take())
    play.say(play.maker, play.draw())
    state, sends = _hear(play, play.taker, Taking(NOW), weight)
    assert isinstance(state, Aborted)
    assert [s.payload.kind for s in sends] == [Kind.ABORT]
    assert h("nonce of taker") not in b"".join(s.payload.wire() for s in sends)


def test_the_same_taker_reveals_where_the_set_is_large_enough() -> None:
    play = Play()
    play.say(play.taker, play.take())
    play.say(play.maker, play.draw())
    state, sends = _hear(play, play.taker, Taking(NOW), 10)
    assert state == Contracting(NOW)
    assert [type(s.payload) for s in sends] == [Reveal]


def test_nobody_refuses_for_size_once_the_seed_exists() -> None:
    """The maker has heard REVEAL: however many arbiters he knows of, he goes on."""
    play = Play().open()
    state, sends = _hear(play, play.maker, Drawing(NOW), 10**9)
    assert (state, sends) == (Contracting(NOW), ())


# ------------------------------------------------------------------ commitments


def _with(play: Play, kind: Kind, **change: Any) -> Any:
    """Conclude the play with one payload changed and its message signed anew."""
    three = {k: play.one(w, k) for w, k in _three(play)}
    who = play.maker if kind is Kind.DRAW else play.taker
    payload = replace(decode(kind, three[kind].payload), **change)
    three[kind] = replace(three[kind], payload=payload.wire(), signature=b"").signed(who)
    return conclude(*three.values(), play.records, EYES)


@pytest.mark.parametrize(
    ("kind", "change", "line"),
    [
        (Kind.REVEAL, {"nonce": h("another nonce")}, "reveal.nonce"),
        (Kind.REVEAL, {"arbiters": listing([record(0), record(1)])}, "reveal.arbiters"),
        (Kind.REVEAL, {"arbiters": ()}, "reveal.arbiters"),
        (Kind.REVEAL, {"draw_id": h("another draw")}, "reveal.draw_id"),
        (Kind.DRAW, {"arbiters": listing([record(0)])}, "reveal.draw_id"),
        (Kind.DRAW, {"nonce": h("another")}, "reveal.draw_id"),
        (Kind.DRAW, {"take_id": h("another take")}, "draw.take_id"),
        (Kind.DRAW, {"rate": 3}, "reveal.draw_id"),
        (Kind.TAKE, {"commitment": h("another")}, "draw.trade_id"),
    ],
)
def test_no_message_of_a_draw_can_be_exchanged(kind: Kind, change: Any, line: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        _with(Play().open(), kind, **change)
    assert caught.value.field == line


def test_a_take_wants_its_work() -> None:
    play = Play()
    take = play.take()
    play.say(play.taker, take)
    hashed = work_of(NET, take, play.taker.node_id, take.work)
    value = [take.offer_hash, take.anchor_hash, play.taker.node_id, take.commitment, take.work]
    assert hashed == ref.H("sandbox", "take-work", value)
    lazy = next(n for n in range(1000) if work_of(NET, take, play.taker.node_id, n)[0])
    idle = Play()
    idle.say(idle.taker, replace(take, work=lazy))
    for who, payload in ((idle.maker, idle.draw), (idle.taker, idle.reveal)):
        idle.say(who, payload())
    with pytest.raises(InvalidRecord, match=r"take\.work: has"):
        _ = idle.drawn


def test_too_few_eligible_make_no_draw() -> None:
    play = Play(lists=SMALL)
    play.say(play.taker, play.take())
    play.say(play.maker, play.draw())
    play.say(play.taker, play.reveal())
    with pytest.raises(InvalidRecord, match="arbiters: are 2 eligible, not 3"):
        _ = play.drawn


def test_an_arbiter_alone_has_no_runner_up() -> None:
    with pytest.raises(InvalidRecord, match="fewer than two nodes"):
        pick(NET, h("seed"), [Candidate(record(0), 1)])


def test_a_public_network_takes_no_record_without_a_bond() -> None:
    with pytest.raises(InvalidRecord, match=r"version: is 0, and main asks for a bond"):
        replace(record(0), network=NETWORKS["main"])
    assert not issubclass(InvalidRecord, LocalFault)
