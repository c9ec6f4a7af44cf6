"""The draw: vectors from a second implementation, fairness, who counts, and when size is judged."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from trade_facts import ANCHOR, FRESH, NET, NOW, Play, block_hash, h, identity, listing, record

from escrow import opening
from escrow.draw import (
    commit,
    conclude,
    eligible,
    large_enough,
    newest,
    pick,
    root,
    seed_of,
    shortlist,
    union,
    work_of,
)
from escrow.keys import arbiter_path
from escrow.messages import Kind
from escrow.model import Aborted, Contracting, Drawing, Received, Taking
from escrow.payloads import Reveal, decode
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.networks import NETWORKS

VECTORS = Path(__file__).parents[1] / "vectors" / "draw.json"
TRADERS = (identity("maker").node_id, identity("taker").node_id)
NETWORK = NETWORKS["sandbox"]


# ------------------------------------------------------------------ a second implementation
# Nothing of it comes from escrow.draw: it is written from docs/draw.md alone.


def ref_hash(network: str, kind: str, value: Any) -> bytes:
    tag = f"p2pnode/{network}/{kind}/1\0".encode()
    return hashlib.sha256(tag + msgpack.packb(value, use_bin_type=True)).digest()


def ref_draw(network: str, seed: bytes, pool: list[tuple[bytes, int]]) -> list[bytes]:
    """`pool` holds (outpoint, weight); a node's bonds share the first 32 bytes."""
    left, drawn = sorted(pool), []
    for i in range(2):
        ticket = int.from_bytes(ref_hash(network, "pick", [seed, i]), "big")
        ticket %= sum(weight for _, weight in left)
        ends = [sum(weight for _, weight in left[: n + 1]) for n in range(len(left))]
        winner = left[next(n for n, end in enumerate(ends) if ticket < end)][0]
        drawn.append(winner)
        left = [entry for entry in left if entry[0][:32] != winner[:32]]
    return drawn


def ref_path(network: str, seed: bytes, outpoint: bytes) -> list[int]:
    digest = ref_hash(network, "arbiter-key", [seed, outpoint])
    return [int.from_bytes(digest[i : i + 4], "big") % 2**31 for i in (0, 4, 8, 12)]


def ref_case(network: str, number: int) -> dict[str, Any]:
    def made(what: str) -> bytes:
        return hashlib.sha256(f"{what} {number}".encode()).digest()

    weights = [1] * (3 + number % 5) if number % 2 else [1, 2, 3, 1_000_000, 2**50]
    pool = [(made(f"node {n}") + b"\xff" * 4, w) for n, w in enumerate(weights)]
    listed = sorted((outpoint, made("record")) for outpoint, _ in pool)
    take, draw, nonce = made("take"), made("draw"), made("nonce")
    seed = ref_hash(network, "seed", [take, draw, nonce])
    arbiter, runner_up = ref_draw(network, seed, pool)
    return {
        "network": network,
        "take_id": take.hex(),
        "draw_id": draw.hex(),
        "nonce": nonce.hex(),
        "commitment": ref_hash(network, "nonce", [nonce]).hex(),
        "listed": [[outpoint.hex(), record_id.hex()] for outpoint, record_id in listed],
        "root": ref_hash(network, "arbiters", listed).hex(),
        "seed": seed.hex(),
        "pool": [[outpoint.hex(), weight] for outpoint, weight in sorted(pool)],
        "arbiter": arbiter.hex(),
        "runner_up": runner_up.hex(),
        "arbiter_key_path": ref_path(network, seed, arbiter),
    }


@dataclass(frozen=True)
class Bond:
    """As much of a record as the walk needs, with any weight."""

    outpoint: bytes
    weight: int

    @property
    def node_id(self) -> bytes:
        return self.outpoint[:32]


def test_the_vectors_are_the_second_implementations() -> None:
    cases = [ref_case(network, n) for network in ("sandbox", "main") for n in range(8)]
    if os.environ.get("P2PNODE_RENEW"):
        VECTORS.write_text(json.dumps(cases, indent=1) + "\n")
    assert json.loads(VECTORS.read_text()) == cases


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text()) if VECTORS.exists() else [])
def test_the_node_draws_as_the_vectors_say(case: dict[str, Any]) -> None:
    network = NETWORKS[case["network"]]
    take, draw, nonce = (bytes.fromhex(case[n]) for n in ("take_id", "draw_id", "nonce"))
    listed = tuple((bytes.fromhex(p), bytes.fromhex(i)) for p, i in case["listed"])
    assert commit(network, nonce).hex() == case["commitment"]
    assert root(network, listed).hex() == case["root"]
    seed = seed_of(network, take, draw, nonce)
    assert seed.hex() == case["seed"]
    pool = [Bond(bytes.fromhex(p), w) for p, w in case["pool"]]
    arbiter, runner_up = pick(network, seed, pool)  # type: ignore[arg-type]
    assert arbiter.outpoint.hex() == case["arbiter"]
    assert runner_up.outpoint.hex() == case["runner_up"]
    assert list(arbiter_path(seed, arbiter.outpoint, network)) == case["arbiter_key_path"]


def test_a_whole_trade_draws_what_the_second_implementation_draws() -> None:
    play = Play().open()
    take, draw, reveal = (play.one(w, k) for w, k in _three(play))
    seed = ref_hash("sandbox", "seed", [take.id, draw.id, h("nonce of taker")])
    pool = [(record(n).outpoint, 1) for n in range(5)]
    assert play.drawn.seed == seed
    assert [play.drawn.arbiter.outpoint, play.drawn.runner_up.outpoint] == ref_draw(
        "sandbox", seed, pool
    )
    assert play.drawn.eligible == 5
    assert reveal.trade_id == take.id


def _three(play: Play) -> list[tuple[Any, Kind]]:
    return [(play.taker, Kind.TAKE), (play.maker, Kind.DRAW), (play.taker, Kind.REVEAL)]


# ------------------------------------------------------------------ fairness


@pytest.mark.parametrize(
    ("weights", "critical"),
    [((1, 1, 1, 1, 1), 13.277), ((1, 2, 3, 4), 11.345), ((7, 1), 6.635)],
    ids=["equal", "one to four", "seven to one"],
)
def test_ten_thousand_draws_fall_as_the_weights_say(
    weights: tuple[int, ...], critical: float
) -> None:
    """Chi squared below the 1 % point of its degrees of freedom."""
    pool = [Bond(h(f"fair {n}") + b"\xff" * 4, w) for n, w in enumerate(weights)]
    count: Counter[bytes] = Counter()
    for n in range(10_000):
        seed = seed_of(NET, h("take"), h("draw"), h(f"nonce {n}"))
        count[pick(NET, seed, pool)[0].outpoint] += 1  # type: ignore[arg-type]
    expected = {b.outpoint: 10_000 * b.weight / sum(weights) for b in pool}
    chi = sum((count[p] - e) ** 2 / e for p, e in expected.items())
    assert chi < critical


def test_the_runner_up_is_fair_too_and_never_the_arbiters_node() -> None:
    pool = [Bond(h(f"node {n // 2}") + bytes([n]) * 4, 1) for n in range(8)]  # two bonds a node
    count: Counter[bytes] = Counter()
    for n in range(5_000):
        first, second = pick(NET, seed_of(NET, h("t"), h("d"), h(f"{n}")), pool)  # type: ignore[arg-type]
        assert first.node_id != second.node_id
        count[second.node_id] += 1
    assert sum((c - 1250) ** 2 / 1250 for c in count.values()) < 11.345


# ------------------------------------------------------------------ who counts


def counts(**change: Any) -> bool:
    anchor = change.pop("anchor_h", ANCHOR)
    traders = change.pop("traders", TRADERS)
    return eligible(record(0, **change), anchor_h=anchor, traders=traders, block_hash=block_hash)


def test_freshness_is_judged_at_the_anchor_and_to_the_block() -> None:
    assert counts(at_height=ANCHOR - 6)
    assert not counts(at_height=ANCHOR - 5)
    far = ANCHOR + 100
    assert counts(at_height=far - 288, anchor_h=far)
    assert not counts(at_height=far - 289, anchor_h=far)


def test_a_record_of_another_chain_does_not_count() -> None:
    assert not counts(at_hash=h("another chain's block"))
    assert not eligible(record(0), anchor_h=ANCHOR, traders=TRADERS, block_hash=lambda height: None)


def test_a_trader_is_not_his_own_arbiter() -> None:
    assert not counts(traders=(*TRADERS, record(0).node_id))
    for name in ("maker", "taker"):
        mine = record(0, who=name)
        assert not eligible(mine, anchor_h=ANCHOR, traders=TRADERS, block_hash=block_hash)


def test_the_newest_record_of_a_bond_counts() -> None:
    old, new = record(0, FRESH - 30), record(0, FRESH)
    for order in ([old, new], [new, old]):
        assert newest(order) == {old.outpoint: new}
        assert shortlist(order) == listing([new])


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


def made_union(*records: Any, **change: Any) -> list[bytes]:
    known = {r.id: r for r in records}
    pool = union(
        change.get("listed", listing(records)),
        known,
        anchor_h=ANCHOR,
        traders=TRADERS,
        block_hash=block_hash,
    )
    return [r.outpoint for r in pool]


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
    assert "2 eligible arbiters, 3 are needed" in large_enough(NET, three[:2], 0)
    assert large_enough(NET, three, 6) == ""
    assert "less than half" in large_enough(NET, three, 7)


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
    return conclude(*three.values(), play.records, block_hash)


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
    assert hashed == ref_hash("sandbox", "take-work", value)
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
        pick(NET, h("seed"), [record(0)])


def test_a_public_network_takes_no_record_without_a_bond() -> None:
    with pytest.raises(InvalidRecord, match=r"version: is 0, and main asks for a bond"):
        replace(record(0), network=NETWORKS["main"])
    assert not issubclass(InvalidRecord, LocalFault)
