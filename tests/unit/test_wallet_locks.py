"""A coin belongs to one trade at most, through any crash."""

import hashlib
from pathlib import Path

import pytest

from escrow.store_locks import CoinLocks
from escrow.store_wallet import AddressIndex
from p2pnode.base.errors import LocalFault
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint

TRADE, OTHER = hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()
COINS = [Outpoint(bytes([n]) * 32, n) for n in range(4)]


def test_locks_survive_a_restart(tmp_path: Path) -> None:
    database = Database(tmp_path / "node.sqlite")
    CoinLocks(database).lock(COINS[:2], TRADE)
    database.close()
    again = CoinLocks(Database(tmp_path / "node.sqlite"))
    assert again.locked() == set(COINS[:2])
    assert again.owners() == dict.fromkeys(COINS[:2], TRADE)


def test_a_second_trade_gets_all_or_nothing() -> None:
    locks = CoinLocks(Database(None))
    locks.lock([COINS[1]], TRADE)
    with pytest.raises(LocalFault, match=TRADE.hex()[:12]):
        locks.lock([COINS[0], COINS[1], COINS[2]], OTHER)
    assert locks.owners() == {COINS[1]: TRADE}
    locks.lock([COINS[1], COINS[2]], TRADE)  # its own again: the step was performed twice
    assert locks.owners() == {COINS[1]: TRADE, COINS[2]: TRADE}


def test_a_lock_is_committed_with_the_step_that_needs_it_or_not_at_all() -> None:
    database = Database(None)
    locks = CoinLocks(database)
    with pytest.raises(RuntimeError), database.transaction():
        locks.lock(COINS, TRADE)
        assert locks.locked() == set(COINS)
        raise RuntimeError
    assert locks.locked() == set()


def test_a_release_frees_one_trades_coins_alone() -> None:
    locks = CoinLocks(Database(None))
    locks.lock(COINS[:2], TRADE)
    locks.lock(COINS[2:], OTHER)
    locks.unlock(TRADE)
    assert locks.owners() == dict.fromkeys(COINS[2:], OTHER)
    locks.lock([COINS[0]], OTHER)


def test_an_address_is_handed_out_once_in_a_life(tmp_path: Path) -> None:
    database = Database(tmp_path / "node.sqlite")
    index = AddressIndex(database)
    assert index.fresh
    assert [index.take(0), index.take(0), index.take(1)] == [0, 1, 0]
    index.raise_to(0, 7)
    index.raise_to(0, 3)  # never back
    database.close()
    again = AddressIndex(Database(tmp_path / "node.sqlite"))
    assert not again.fresh
    assert (again.next(0), again.next(1)) == (7, 1)
