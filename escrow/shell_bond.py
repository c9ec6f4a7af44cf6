"""The arbiter's own bonds: made from the wallet, seen on our chain, shown in the record.

    create: journal key and lock time ──▶ wallet pays ──▶ confirmed ──age──▶ in the record
    lock over: redeem or renew (shell_redeem) ──▶ on its way ──▶ spent

What the chain shows decides; the table keeps what a chain cannot give back: which key, which lock
time, and a spend that has left.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from escrow.bond import FIRST_TIME, LAST_TIME, YEAR_S, Bond, bond_output, weight_at
from escrow.draw import ANCHOR_DEPTH
from escrow.redeem import BondCoin, is_open
from escrow.shell_desktop import Desktop
from p2pnode.base import wire
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    NodeError,
    NotFound,
    Unreachable,
)
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint, Transaction, parse_transaction
from p2pnode.base.units import MAX_SAT, decimal, moment

log: Final = logging.getLogger(__name__)

MOST_BYTES: Final = 420  # of the payment: eight inputs, so that a record has room for any branch
ROUND_S: Final = 3600  # a lock time is a full hour: 8,760 to try in a year if only words are left
LONGEST_S: Final = 5 * YEAR_S
BLOCK_S: Final = 600
MAX_BONDS: Final = 1000

_SCRIPTS: Final = (
    """
    CREATE TABLE bond (
        number INTEGER PRIMARY KEY, lock_time INTEGER NOT NULL, sat INTEGER NOT NULL,
        began INTEGER NOT NULL, txid BLOB, spend BLOB
    ) STRICT
    """,
)


@dataclass(frozen=True, slots=True)
class Held:
    """One bond of ours as the chain shows it now.

    `coin` is its greatest output, with the transaction and height that made it (0: pending);
    `spent` is the height of its spend (0: pending), None while there is none.
    """

    number: int
    lock_time: int
    sat: int
    key: bytes
    txid: bytes = b""  # of the payment as it left
    coin: BondCoin | None = None
    raw: bytes = b""
    height: int = 0
    spent: int | None = None

    @property
    def script(self) -> bytes:
        """The output script that it is paid to."""
        return bond_output(self.lock_time, self.key)

    @property
    def value(self) -> int:
        """Satoshi that lie there."""
        return self.coin.value if self.coin else 0

    def weight(self, mtp: int) -> int:
        """Return what it weighs at a median time past."""
        return weight_at(self.value, self.lock_time, mtp)


def leaving_of(row: Any) -> Transaction | None:
    """Return the spend of a bond that has left, as it is kept."""
    return parse_transaction("bond", row["spend"]) if row["spend"] else None


class Bonds:
    """Makes, follows and proves this node's fidelity bonds; `shell_redeem` spends them."""

    def __init__(self, world: Desktop, database: Database) -> None:
        self._world = world
        self.database = database
        self.busy = trio.Lock()
        database.migrate("bond", _SCRIPTS)

    # -- seeing

    def any(self) -> bool:
        """Tell whether a bond was ever made here."""
        return self.database.one("SELECT 1 FROM bond LIMIT 1") is not None

    async def all(self) -> tuple[Held, ...]:
        """Return every bond, the newest last. Raises Unreachable, PeerFault."""
        rows = self.database.all("SELECT * FROM bond ORDER BY number")
        return tuple([await self.look(row) for row in rows])

    async def one(self, number: int) -> Held:
        """Return one bond. Raises NotFound."""
        row = self.database.one("SELECT * FROM bond WHERE number = ?", number)
        if row is None:
            raise NotFound(f"there is no bond {number}: p2pnode arbiter bond show", field="number")
        return await self.look(row)

    async def look(self, row: Any) -> Held:
        """Return a row's bond as the chain shows it now. Raises Unreachable, PeerFault."""
        key = self._world.keys.bond_key(row["number"]).public
        held = Held(row["number"], row["lock_time"], row["sat"], key, row["txid"] or b"")
        coins: list[Held] = []
        spends = {i.outpoint: 0 for i in leaving.inputs} if (leaving := leaving_of(row)) else {}
        for seen in await self._world.chain.sightings(held.script):
            tx = parse_transaction("sighting", seen.raw)
            spends |= {i.outpoint: seen.height for i in tx.inputs}
            for n, output in enumerate(tx.outputs):
                if output.script == held.script:
                    point = Outpoint(tx.txid, n)
                    coin = BondCoin(held.number, point, output.value, held.lock_time, key)
                    coins.append(replace(held, coin=coin, raw=seen.raw, height=seen.height))
        best = max(coins, key=lambda h: (h.height > 0, h.value), default=held)
        spent = spends.get(best.coin.outpoint) if best.coin else None
        return replace(best, spent=spent)

    async def proof(self, held: Held) -> Bond:
        """Return what a record shows of a confirmed bond. Raises LocalFault, Unreachable."""
        if held.coin is None or not held.height:
            raise LocalFault(f"bond {held.number} is not confirmed yet: wait for a block")
        branch, position = await self._world.chain.proof(held.coin.outpoint.txid, held.height)
        return Bond(
            outpoint=held.coin.outpoint.wire(),
            transaction=parse_transaction("bond", held.raw).serialize(witness=False),
            height=held.height,
            position=position,
            branch=branch,
            key=held.key,
            lock_time=held.lock_time,
        )

    async def best(self) -> tuple[Held, Bond] | None:
        """Return the heaviest bond that can be drawn now, or None. Raises as `all` does."""
        chosen: tuple[int, Held, Bond] | None = None
        for held in await self.all():
            if self.standing(held)[0] == "drawable":
                try:
                    bond = await self.proof(held)
                except InvalidRecord as error:
                    log.warning("bond %s cannot be shown: %s", held.number, error)
                    continue
                weight = bond.weight(self._world.chain.tip().mtp)
                if chosen is None or weight > chosen[0]:
                    chosen = (weight, held, bond)
        return chosen[1:] if chosen else None

    def standing(self, held: Held) -> tuple[str, str]:
        """Return a bond's state at our own anchor now, and what that means for its owner."""
        network, tip = self._world.network, self._world.chain.tip()
        if held.coin is None:
            if held.txid:
                return "pending", "its payment waits for a block"
            return "unpaid", "its payment is on no chain that we see"
        if held.spent is not None:
            return ("redeemed", "") if held.spent else ("leaving", "its spend waits for a block")
        if not held.height:
            return "pending", "its payment waits for a block"
        if is_open(held.lock_time, tip.mtp):
            return "expired", "p2pnode arbiter bond redeem, or renew"
        if held.lock_time < tip.mtp + network.bond_lock_s:
            return "lapsed", "too short a time is left: p2pnode arbiter bond renew"
        if held.weight(tip.mtp) < network.bond_weight:
            return "lapsed", "it weighs too little by now: p2pnode arbiter bond renew"
        ripe = held.height + network.bond_age + ANCHOR_DEPTH
        return (
            ("young", f"drawable from block {ripe} on") if tip.height < ripe else ("drawable", "")
        )

    async def waiting(self) -> str:
        """Return what the newest living bond waits for, or nothing if one can be drawn."""
        told = [(self.standing(held), held) for held in await self.all()]
        if any(state == "drawable" for (state, _), _ in told):
            return ""
        living = [(note, held) for (state, note), held in told if held.spent is None]
        return f"bond {living[-1][1].number}: {living[-1][0]}" if living else ""

    # -- making

    def lock_until(self, days: int | None, until: int | None) -> int:
        """Return the lock time for so many days from the chain's clock, or until a unix time.

        Raises LocalFault where a bond locked so could never be drawn, or is locked for too long.
        """
        world, network = self._world, self._world.network
        mtp = world.chain.tip().mtp
        wanted = mtp + days * 86_400 if days is not None else until or 0
        lock_time = -(-wanted // ROUND_S) * ROUND_S
        least = mtp + network.bond_lock_s + network.bond_age * BLOCK_S
        if lock_time < least:
            hours = network.bond_lock_s // 3600
            raise LocalFault(
                f"a bond locked until {moment(lock_time)} could never be drawn: it must be "
                f"{network.bond_age} blocks old and stay locked for {hours} "
                f"hour{'' if hours == 1 else 's'} more; lock it beyond {moment(least)}",
                field="lock",
            )
        if lock_time > mtp + LONGEST_S:
            raise LocalFault(
                f"{moment(lock_time)} is more than five years away, and only one year counts: "
                "name a nearer date",
                field="lock",
            )
        return lock_time

    def check_weight(self, sat: int, lock_time: int) -> None:
        """Raise LocalFault for a bond that would weigh too little once it is old enough."""
        world, network = self._world, self._world.network
        ripe = world.chain.tip().mtp + network.bond_age * BLOCK_S
        if weight_at(sat, lock_time, ripe) < network.bond_weight:
            seconds = min(lock_time - ripe, YEAR_S)
            least = -(-network.bond_weight * YEAR_S // seconds)
            raise LocalFault(
                f"{decimal(sat, 8)} BTC until {moment(lock_time)} weigh too little to be drawn: "
                f"lock {decimal(least, 8)} BTC or more, or for longer",
                field="amount_sat",
            )

    async def create(self, sat: int, lock_time: int, rate: int | None = None) -> Held:
        """Lock `sat` of the wallet's until `lock_time`, a fixed thing once it is sent.

        Raises LocalFault without funds or for what could never be drawn, SecondOpinionDiffers,
        Unreachable when nobody knows whether it left: the wallet offers it again.
        """
        wire.within("amount_sat", sat, 1, MAX_SAT)
        self.check_weight(sat, lock_time)
        async with self.busy:
            number = self.begin(lock_time, sat)
            held = await self.one(number)
            try:
                txid = await self._world.purse.pay(held.script, sat, rate, MOST_BYTES)
            except Unreachable:
                raise  # signed and journaled by the wallet: it may have left
            except NodeError as error:
                if error.field == "transaction":  # signed, and one server says that it refuses it:
                    at = f"bond number {number}, locked until {moment(lock_time)}"
                    raise LocalFault(  # should it appear yet, this row finds the coins again
                        f"{error}; {at}, is kept as unpaid", field="transaction"
                    ) from None
                self.drop(number)
                raise
            self.paid(number, txid)
        return await self.one(number)

    async def recover(self, number: int, lock_time: int) -> Held:
        """Find a bond of these words again by its proof's number and lock time.

        Raises LocalFault where nothing was ever paid to it, or the number stands for another.
        """
        wire.within("number", number, 0, 2**31 - 1)
        wire.within("lock_time", lock_time, FIRST_TIME, LAST_TIME)
        async with self.busy:
            row = self.database.one("SELECT * FROM bond WHERE number = ?", number)
            if row is not None and row["lock_time"] != lock_time:
                raise LocalFault(f"bond {number} is known here with another lock time")
            if row is None:
                key = self._world.keys.bond_key(number).public
                if not await self._world.chain.sightings(bond_output(lock_time, key)):
                    raise LocalFault(
                        f"nothing was ever paid to bond {number} locked until {lock_time}: compare "
                        "both with what `p2pnode arbiter bond proof` printed",
                        field="lock_time",
                    )
                self._insert(number, lock_time, 0)
        return await self.one(number)

    def paid(self, number: int, txid: bytes) -> None:
        """Keep what pays a bond: a server may show it late."""
        with self.database.transaction():
            self.database.run("UPDATE bond SET txid = ? WHERE number = ?", txid, number)

    def drop(self, number: int) -> None:
        """Forget a bond to which nothing was sent."""
        with self.database.transaction():
            self.database.run("DELETE FROM bond WHERE number = ?", number)

    def begin(self, lock_time: int, sat: int) -> int:
        """Keep the next key and this lock time; returns the number. Raises LocalFault."""
        row = self.database.one("SELECT count(*) AS n, max(number) AS last FROM bond")
        if row and row["n"] >= MAX_BONDS:
            raise LocalFault(f"{MAX_BONDS} bonds were made here: no more")
        number = row["last"] + 1 if row and row["n"] else 0
        self._insert(number, lock_time, sat)
        return number

    def _insert(self, number: int, lock_time: int, sat: int) -> None:
        row, now = "INSERT INTO bond VALUES (?, ?, ?, ?, NULL, NULL)", self._world.clock.now()
        with self.database.transaction():
            self.database.run(row, number, lock_time, sat, now)
