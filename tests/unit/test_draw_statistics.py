"""What the draw's page promises in numbers: fairness, what grinding gains, what bonds cost."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import pytest
from trade_facts import NET, h

from escrow.anchor import Candidate
from escrow.draw import pick, seed_of

DRAWS = 10_000
NORMAL = 2.576  # standard deviations: the 1 % point, both sides


@dataclass(frozen=True)
class Stand:
    """As much of a record as the walk needs."""

    outpoint: bytes
    node_id: bytes
    bond: None = None


def stands(weights: tuple[int, ...], nodes: int = 10**6) -> list[Candidate]:
    found = [
        Candidate(Stand(h(f"outpoint {n}") + bytes(4), h(f"node {n % nodes}")), w)  # type: ignore[arg-type]
        for n, w in enumerate(weights)
    ]
    return sorted(found, key=lambda c: c.record.outpoint)


def drawn(pool: list[Candidate], number: int, taker: str = "") -> tuple[bytes, bytes]:
    seed = seed_of(NET, h("take"), h("draw"), h(f"nonce {taker}{number}"))
    first, second = pick(NET, seed, pool)
    return first.node_id, second.node_id


def chi_squared(count: Counter[bytes], expected: dict[bytes, float]) -> float:
    assert set(count) <= set(expected)
    return sum((count[p] - e) ** 2 / e for p, e in expected.items())


# ------------------------------------------------------------------ fairness


@pytest.mark.parametrize(
    ("weights", "critical"),
    [
        ((1, 1, 1, 1, 1), 13.277),
        ((1, 2, 3, 4), 11.345),
        ((7, 1), 6.635),
        ((4_986_301, 10_000_000, 1_232_876, 25_000_000, 1_000_000, 3_000_001, 8_123_456), 16.812),
        (tuple(range(1_000_000, 21_000_000, 1_000_000)), 36.191),
    ],
    ids=["equal", "one to four", "seven to one", "seven bonds", "twenty bonds"],
)
def test_ten_thousand_draws_fall_as_the_weights_say(
    weights: tuple[int, ...], critical: float
) -> None:
    """Chi squared below the 1 % point of its degrees of freedom."""
    pool = stands(weights)
    count = Counter(drawn(pool, n)[0] for n in range(DRAWS))
    expected = {c.record.node_id: DRAWS * c.weight / sum(weights) for c in pool}
    assert chi_squared(count, expected) < critical


def test_a_skewed_walk_would_be_seen() -> None:
    """The control: one weight counted a tenth too heavy fails the same test."""
    weights = (10, 10, 10, 10, 10)
    pool = stands(weights)
    count = Counter(drawn(pool, n)[0] for n in range(DRAWS))
    shares = [11, *weights[1:]]
    expected = {
        c.record.node_id: DRAWS * share / sum(shares) for c, share in zip(pool, shares, strict=True)
    }
    assert chi_squared(count, expected) > 13.277


def test_the_runner_up_falls_as_the_weights_without_the_arbiter_say() -> None:
    weights = (4, 3, 2, 1)
    pool, total = stands(weights), sum(weights)
    count = Counter(drawn(pool, n)[1] for n in range(DRAWS))
    expected = {
        c.record.node_id: float(
            sum(
                Fraction(DRAWS * first.weight * c.weight, total * (total - first.weight))
                for first in pool
                if first is not c
            )
        )
        for c in pool
    }
    assert chi_squared(count, expected) < 11.345


def test_the_runner_up_is_fair_too_and_never_the_arbiters_node() -> None:
    pool = stands((1,) * 8, nodes=4)  # two bonds a node
    count: Counter[bytes] = Counter()
    for n in range(5_000):
        first, second = drawn(pool, n)
        assert first != second
        count[second] += 1
    assert chi_squared(count, dict.fromkeys(count, 1250.0)) < 11.345
    assert len(count) == 4


# ------------------------------------------------------------------ what tries and bonds give


@pytest.mark.parametrize("share", [(1, 100), (5, 100), (1, 10), (1, 4), (1, 3), (1, 2)])
@pytest.mark.parametrize("tries", [1, 2, 5, 10])
def test_k_tries_find_ones_own_arbiter_as_the_formula_says(
    share: tuple[int, int], tries: int
) -> None:
    """1 - (1 - p)^k, within the 1 % point: retries gain that and nothing more."""
    own, whole = share
    pool = stands((own, whole - own, 0))[:]
    mine = h("node 0")
    runs = 2_000
    found = sum(
        any(drawn_first(pool, f"{own}/{whole} {run}", k) == mine for k in range(tries))
        for run in range(runs)
    )
    p = 1 - (1 - own / whole) ** tries
    assert abs(found - runs * p) <= NORMAL * (runs * p * (1 - p)) ** 0.5 + 1


def drawn_first(pool: list[Candidate], taker: str, number: int) -> bytes:
    """The arbiter of one more try, each with a commitment of its own."""
    whole = [c for c in pool if c.weight]
    seed = seed_of(NET, h(f"take {taker} {number}"), h(f"draw {taker} {number}"), h(taker))
    return pick(NET, seed, whole)[0].node_id


@pytest.mark.parametrize(
    ("percent", "needed"), [(1, 0.0101), (10, 0.111), (25, 0.333), (33, 0.493), (50, 1.0)]
)
def test_a_share_of_the_draws_costs_what_the_page_says(percent: int, needed: float) -> None:
    """To be drawn with share p an attacker locks p / (1 - p) of what honest arbiters lock."""
    p = percent / 100
    assert needed == pytest.approx(p / (1 - p), rel=0.01)
    honest = (10**8,) * 20
    attacker = round(sum(honest) * p / (1 - p))
    pool = stands((attacker, *honest))
    mine, count = h("node 0"), 0
    for n in range(DRAWS):
        count += drawn(pool, n)[0] == mine
    assert abs(count - DRAWS * p) <= NORMAL * (DRAWS * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("parts", [1, 2, 10, 100])
def test_splitting_a_bond_gains_nothing(parts: int) -> None:
    """Weight is linear: a hundred nodes with a hundredth each are drawn as often as one."""
    honest, own = 3 * 10**8, 10**8
    pool = stands((honest, *([own // parts] * parts)))
    count = sum(drawn(pool, n)[0] != h("node 0") for n in range(DRAWS))
    assert abs(count - DRAWS / 4) <= NORMAL * (DRAWS * 3 / 16) ** 0.5
