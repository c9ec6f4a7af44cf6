"""The arbiter's standing consent: his record, kept fresh in the DHT while the node runs.

    register ──▶ the record, with the heaviest bond that is old enough ──▶ put, renewed, re-put
                 pause: put no more, and it ages out ──▶ resume

The record names a block 24 below our tip, so a fresh one is never too new for a draw under
way; it is renewed well before it is too old (docs/draw.md). Where a bond is asked for and none
is old enough yet, nothing is put until one is.
"""

import logging
import sqlite3
from typing import Final

import trio

from escrow.anchor import OLDEST, YOUNGEST
from escrow.arbiters import MAX_FEE_BASE, MAX_FEE_PPM, ArbiterRecord
from escrow.bond import Bond
from escrow.draw import ANCHOR_DEPTH, FRESH_DEPTH
from escrow.needs import Registry
from escrow.shell_bond import Bonds
from escrow.shell_desktop import Desktop
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault, NodeError
from p2pnode.base.store import Database

log: Final = logging.getLogger(__name__)

RENEW_BLOCKS: Final = 36
REPUT_S: Final = 600

_SCRIPTS: Final = (
    """
    CREATE TABLE arbiter_service (
        one INTEGER PRIMARY KEY CHECK (one = 1), fee_base INTEGER NOT NULL,
        fee_ppm INTEGER NOT NULL, record BLOB NOT NULL, holders INTEGER NOT NULL
    ) STRICT
    """,
    """
    ALTER TABLE arbiter_service ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
    UPDATE arbiter_service SET record = x'', holders = 0
    """,
)


class ArbiterService:
    """Registers this node as an arbiter and keeps its record in the DHT."""

    def __init__(
        self, world: Desktop, registry: Registry, database: Database, bonds: Bonds
    ) -> None:
        self._world = world
        self._registry = registry
        self._database = database
        self._bonds = bonds
        self._put_at = 0
        self._busy = trio.Lock()  # two of one height would put the bond out of every draw
        database.migrate("arbiter", _SCRIPTS)

    # -- what stands

    def registered(self) -> bool:
        """Tell whether we are an arbiter, paused or not."""
        return self._row() is not None

    def paused(self) -> bool:
        """Tell whether the record is put no more."""
        row = self._row()
        return bool(row and row["paused"])

    def record(self) -> ArbiterRecord | None:
        """Return the record that was put last, or None while there is none."""
        row = self._row()
        if row is None or not row["record"]:
            return None
        return ArbiterRecord.from_wire(row["record"], self._world.network)

    def holders(self) -> int:
        """Return how many nodes held the record when it was put last."""
        row = self._row()
        return int(row["holders"]) if row else 0

    def fees(self) -> tuple[int, int]:
        """Return fee_base in satoshi and fee_ppm as they are registered."""
        row = self._row()
        return (row["fee_base"], row["fee_ppm"]) if row else (0, 0)

    def drawable_until(self) -> int | None:
        """Return the last tip at which a draw can still take the record that was put last."""
        record = self.record()
        return record.at_height + OLDEST + ANCHOR_DEPTH if record else None

    def _row(self) -> sqlite3.Row | None:
        return self._database.one("SELECT * FROM arbiter_service")

    # -- what the user says

    async def register(self, fee_base: int, fee_ppm: int) -> ArbiterRecord | None:
        """Consent to be drawn, for these fees; returns the record, None until a bond is ripe.

        Raises LocalFault without a bond where the network asks for one; Unreachable.
        """
        wire.within("fee_base", fee_base, 0, MAX_FEE_BASE)
        wire.within("fee_ppm", fee_ppm, 0, MAX_FEE_PPM)
        if not self._world.network.bondless and not await self._has_bond():
            raise LocalFault(
                f"{self._world.network.name} asks its arbiters for a bond: "
                "p2pnode arbiter bond create --help"
            )
        async with self._busy:
            record = await self._make(fee_base, fee_ppm)
            self._save(fee_base, fee_ppm)
            if record is not None:
                await self._put(record)
        return record

    async def _has_bond(self) -> bool:
        return any(h.spent is None for h in await self._bonds.all())

    def pause(self) -> None:
        """Put the record no more. Raises LocalFault where there is none to pause."""
        self._set_paused(1)

    async def resume(self) -> None:
        """Put the record again. Raises LocalFault where nothing was registered; Unreachable."""
        self._set_paused(0)
        await self._keep(now=True)

    def _set_paused(self, paused: int) -> None:
        if not self.registered():
            raise LocalFault("you are not registered: p2pnode arbiter register")
        with self._database.transaction():
            self._database.run("UPDATE arbiter_service SET paused = ?", paused)

    # -- the record

    async def _make(self, fee_base: int, fee_ppm: int) -> ArbiterRecord | None:
        """Return a fresh record, None where the network asks for a bond that is not ripe."""
        found = await self._bonds.best() if self._bonds.any() else None
        number, bond = (found[0].number, found[1]) if found else (0, None)
        if bond is None and not self._world.network.bondless:
            return None
        # Nothing below awaits: heights and hashes are of one chain.
        tip, before = self._world.chain.tip().height, self.record()
        made = self._at(tip - FRESH_DEPTH, fee_base, fee_ppm, bond)
        if before and made.at_height <= before.at_height and made.id != before.id:
            # Two different records of one height would put the bond out (docs/draw.md).
            if self._at(before.at_height, fee_base, fee_ppm, bond).id == before.id:
                return before
            if before.at_height + 1 > tip - ANCHOR_DEPTH - YOUNGEST:
                raise LocalFault("your record was changed too often: wait for a block")
            made = self._at(before.at_height + 1, fee_base, fee_ppm, bond)
        sign_bond = self._world.keys.bond_key(number).sign_schnorr if bond else None
        sign_point = self._world.keys.arbitration_key().sign_schnorr
        return made.signed(self._world.identity, sign_point, sign_bond)

    def _at(self, height: int, fee_base: int, fee_ppm: int, bond: Bond | None) -> ArbiterRecord:
        world = self._world
        at_hash = world.chain.block_hash(height) if height > 0 else None
        if at_hash is None:
            raise LocalFault("the chain is too short for an arbiter's record: wait for blocks")
        point, chain_code = world.keys.arbitration_account()
        return ArbiterRecord(
            network=world.network,
            node_id=world.me,
            point=point,
            chain_code=chain_code,
            fee_base=fee_base,
            fee_ppm=fee_ppm,
            at_height=height,
            at_hash=at_hash,
            bond=bond,
        )

    def _save(self, fee_base: int, fee_ppm: int) -> None:
        with self._database.transaction():
            self._database.run(
                "INSERT INTO arbiter_service (one, fee_base, fee_ppm, record, holders, paused)"
                " VALUES (1, ?, ?, x'', 0, 0) ON CONFLICT (one) DO UPDATE SET"
                " fee_base = excluded.fee_base, fee_ppm = excluded.fee_ppm, paused = 0",
                fee_base,
                fee_ppm,
            )

    async def _put(self, record: ArbiterRecord) -> None:
        """Publish a record, kept first: what may have left is never forgotten in a crash."""
        self._put_at = 0
        with self._database.transaction():
            self._database.run("UPDATE arbiter_service SET record = ?", record.wire())
        holders = await self._registry.publish(record.wire())
        with self._database.transaction():
            self._database.run("UPDATE arbiter_service SET holders = ?", holders)
        self._put_at = self._world.clock.now() if holders else 0  # nobody there: soon again

    async def run(self) -> None:
        """Renew and re-put the record for as long as we are an arbiter."""
        while True:
            try:
                await self._keep()
            except NodeError as error:
                log.info("the arbiter's record was not renewed: %s", error)
            with trio.move_on_after(REPUT_S / 10):
                await self._world.chain.changed()
            await trio.sleep(1)  # one look a second is enough, however fast blocks come

    async def _keep(self, *, now: bool = False) -> None:
        async with self._busy:
            await self._renew(now=now)

    async def _renew(self, *, now: bool) -> None:
        row, record = self._row(), self.record()
        if row is None or row["paused"]:
            return
        if record is None or await self._is_stale(record):
            record = await self._make(row["fee_base"], row["fee_ppm"])
            if record is None:
                return
        elif not now and self._world.clock.now() < self._put_at + REPUT_S:
            return
        await self._put(record)

    async def _is_stale(self, record: ArbiterRecord) -> bool:
        """Tell whether another record should be put: a newer block, or a bond that is ripe now."""
        chain = self._world.chain
        lag = chain.tip().height - FRESH_DEPTH - record.at_height
        if lag >= RENEW_BLOCKS or chain.block_hash(record.at_height) != record.at_hash:
            return True
        if not self._bonds.any():
            return False
        best = await self._bonds.best()
        shown = record.bond.outpoint if record.bond else b""
        return best is not None and best[1].outpoint != shown
