"""The contract's own bounds: every line of it, at its edges and one beyond."""

from dataclasses import fields
from typing import Any

import pytest
from escrow_tx_kit import BOND, BOND2, KEYS, NETWORKS, ROLES, contract, h

from escrow.contract import (
    BACKUP_KEYS,
    KIND_2OF3,
    KIND_BACKUP,
    KINDS_ALLOWED,
    MAIN_KEYS,
    MAX_BYTES,
    Contract,
    backup_blocks,
)
from escrow.payout import Branch
from escrow.terms import Terms, deposit
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_SAT

NET = NETWORKS["regtest"]


def backup(**change: Any) -> Contract:
    return contract(**({"escrow_kind": KIND_BACKUP} | change))


@pytest.mark.parametrize("made", [contract(), backup(), backup(dep_b=0), contract(dep_b=0)])
def test_it_is_read_as_it_was_written(made: Contract) -> None:
    assert Contract.from_wire(made.wire(), NET) == made
    assert len(Contract.line_names()) == len(made.array()) == len(fields(Contract)) + 1 == 40
    assert made.escrow_sat == made.amount_sat + made.dep_b + made.dep_s


def test_the_longest_fits_its_limit() -> None:
    amount = MAX_SAT // 4
    longest = backup(
        network=NETWORKS["testnet4"],
        amount_sat=amount,
        dep_b=amount // 2,
        dep_s=amount // 2,
        method="m" * 32,
        fiat_minor=10**15,
        fee_a=amount // 50,
        fee_a2=amount // 50,
        script_b=b"\x51\x20" + h("b"),
        period_s=60 * 86_400,
        rate=500,
        anchor_h=499_999_999,
    )
    assert len(longest.wire()) < 1_100 < MAX_BYTES


def test_the_default_kind_has_a_backup_branch() -> None:
    assert max(KINDS_ALLOWED) == KIND_BACKUP  # what a taker gets who names none
    assert KINDS_ALLOWED == (KIND_2OF3, KIND_BACKUP)


@pytest.mark.parametrize(
    ("period_s", "days"),
    [(3_600, 1), (86_400, 1), (86_401, 2), (345_600, 4), (59 * 86_400, 59), (60 * 86_400, 60)],
)
def test_n_is_thirty_days_past_the_period(period_s: int, days: int) -> None:
    n = 144 * (days + 30)
    assert backup_blocks(period_s) == n < 2**16  # above it older() would mean another age
    assert backup(period_s=period_s).n == n
    for wrong in (n - 1, n + 1, n - 144, 0, 65_536, 2**22 + n, -n, True):
        with pytest.raises(InvalidRecord) as caught:
            backup(period_s=period_s, n=wrong)
        assert caught.value.field == "n"


@pytest.mark.parametrize("period_s", [0, -1, 60 * 86_400 + 1])
def test_no_n_beyond_sixty_days(period_s: int) -> None:
    with pytest.raises(InvalidRecord, match="period_days"):
        backup_blocks(period_s)


@pytest.mark.parametrize("name", MAIN_KEYS + BACKUP_KEYS)
@pytest.mark.parametrize("value", [b"", bytes(33), b"\x04" + bytes(32), b"\x02" + bytes(31), None])
def test_a_key_that_is_none(name: str, value: Any) -> None:
    with pytest.raises(InvalidRecord) as caught:
        backup(**{name: value})
    assert caught.value.field == name


def test_the_plain_kind_has_no_second_keys() -> None:
    for name in BACKUP_KEYS:
        with pytest.raises(InvalidRecord) as caught:
            contract(**{name: KEYS["B2"].public})
        assert caught.value.field == name
    for n in (1, 144 * 31, False):
        with pytest.raises(InvalidRecord, match="n:"):
            contract(n=n)


@pytest.mark.parametrize("kind", ["", "tr-2of3", "wsh-2of3 ", "WSH-2OF3", None, 1, b"wsh-2of3"])
def test_an_unknown_kind(kind: Any) -> None:
    with pytest.raises(InvalidRecord) as caught:
        contract(escrow_kind=kind)
    assert caught.value.field == "escrow_kind"


@pytest.mark.parametrize("one", ["maker", "taker", "arbiter", "runner_up"])
@pytest.mark.parametrize("other", ["maker", "taker", "arbiter", "runner_up"])
def test_four_people(one: str, other: str) -> None:
    if one == other:
        with pytest.raises(InvalidRecord, match=f"{one}: is not 32 bytes"):
            contract(**{one: bytes(31)})
        return
    with pytest.raises(InvalidRecord, match="himself"):
        contract(**{one: getattr(contract(), other)})


def test_bonds_are_two_and_name_nobody() -> None:
    """A bond's outpoint is a coin's: the arbiter is who the contract says."""
    swapped = contract(bond_a=BOND2, bond_a2=BOND)
    assert swapped.arbiter == contract().arbiter
    with pytest.raises(InvalidRecord, match="bond_a2"):
        contract(bond_a2=BOND)


@pytest.mark.parametrize(
    "dep_b", [-1, 1, 9_999, 49_999, 250_001, 2**63, False, True, 0.0, None, b""]
)
def test_a_deposit_of_the_buyer_is_none_or_a_tenth_to_a_half(dep_b: Any) -> None:
    for good in (0, 50_000, 250_000):
        contract(dep_b=good)
    with pytest.raises(InvalidRecord) as caught:
        contract(dep_b=dep_b)
    assert caught.value.field == "dep_b"


@pytest.mark.parametrize("dep_s", [0, 49_999, 250_001])
def test_the_seller_always_has_a_deposit(dep_s: int) -> None:
    with pytest.raises(InvalidRecord, match="dep_s"):
        contract(dep_s=dep_s)


@pytest.mark.parametrize("name", ["fee_a", "fee_a2"])
def test_each_arbiters_fee_is_at_most_a_quarter(name: str) -> None:
    for kind in KINDS_ALLOWED:
        contract(escrow_kind=kind, **{name: 625_000 // 4})
        contract(escrow_kind=kind, **{name: 0})
        for wrong in (625_000 // 4 + 1, -1, True):
            with pytest.raises(InvalidRecord) as caught:
                contract(escrow_kind=kind, **{name: wrong})
            assert caught.value.field == name


def test_every_line_is_in_the_hash() -> None:
    made = backup()
    hashes = {made.hash}
    for branch, names in ((Branch.MAIN, MAIN_KEYS), (Branch.BACKUP, BACKUP_KEYS)):
        for role, name in zip(ROLES[branch], names, strict=True):
            flipped = bytes([KEYS[role].public[0] ^ 1]) + KEYS[role].public[1:]
            hashes.add(backup(**{name: flipped}).hash)
    for name in ("arbiter", "runner_up"):
        hashes.add(backup(**{name: h("another")}).hash)
    hashes.add(contract().hash)
    assert len(hashes) == 10


# ------------------------------------------------------------------ what an offer says


def terms(**change: Any) -> Terms:
    values: dict[str, Any] = {
        "offer_hash": h("offer"),
        "maker": h("maker"),
        "maker_is_seller": 1,
        "currency": "EUR",
        "exponent": 2,
        "min_sat": 200_000,
        "max_sat": 5_000_000,
        "price": 60_000_00 * 10_000,
        "slack_bp": 0,
        "method": "CUSTOM",
        "period_s": 3600,
        "dep_b_bp": 1500,
        "dep_s_bp": 2000,
        "escrow_kinds": KINDS_ALLOWED,
    }
    return Terms(**(values | change))


@pytest.mark.parametrize(
    "kinds", [(), ("tr-2of3",), (*KINDS_ALLOWED, KIND_2OF3), [KIND_2OF3], KIND_2OF3, None]
)
def test_an_offer_names_kinds_that_we_know(kinds: Any) -> None:
    for good in ((KIND_2OF3,), (KIND_BACKUP,), KINDS_ALLOWED):
        assert terms(escrow_kinds=good).escrow_kinds == good
    with pytest.raises(InvalidRecord, match="escrow_kinds"):
        terms(escrow_kinds=kinds)


@pytest.mark.parametrize("points", [-1, 1, 999, 5001, True, False, None])
def test_basis_points_of_a_deposit(points: Any) -> None:
    assert terms(dep_b_bp=0).conditions(500_000).dep_b == 0
    assert terms(dep_b_bp=1000).conditions(500_000).dep_b == 50_000
    with pytest.raises(InvalidRecord, match="dep_b_bp"):
        terms(dep_b_bp=points)
    if points is not None:
        with pytest.raises(InvalidRecord, match="dep_s_bp"):
            terms(dep_s_bp=0)


@pytest.mark.parametrize("amount", [200_000, 200_001, 10**9, MAX_SAT // 4])
def test_no_basis_points_make_no_deposit(amount: int) -> None:
    assert deposit(0, amount) == 0
    for points in (1, 1000, 5000):
        assert max(-(-amount // 10), 10_000) <= deposit(points, amount) <= amount // 2
