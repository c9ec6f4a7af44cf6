"""The arbiter's standing consent: his record, kept fresh in the DHT while the node runs.

The record names a block 24 below our tip, so a fresh one is never too new for a draw under
way; it is renewed well before it is too old (docs/draw.md).
"""

import logging
import sqlite3
from typing import Final

import trio

from escrow.arbiters import MAX_FEE_BASE, MAX_FEE_PPM, ArbiterRecord
from escrow.draw import FRESH_DEPTH
from escrow.needs import Registry
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
)


class ArbiterService:
    """Registers this node as an arbiter and keeps its record in the DHT."""

    def __init__(self, world: Desktop, registry: Registry, database: Database) -> None:
        self._world = world
        self._registry = registry
        self._database = database
        self._put_at = 0
        database.migrate("arbiter", _SCRIPTS)

    def record(self) -> ArbiterRecord | None:
        """Return our own record, or None while we are no arbiter."""
        row = self._row()
        return ArbiterRecord.from_wire(row["record"], self._world.network) if row else None

    def holders(self) -> int:
        """Return how many nodes held the record when it was put last."""
        row = self._row()
        return int(row["holders"]) if row else 0

    def _row(self) -> sqlite3.Row | None:
        return self._database.one("SELECT * FROM arbiter_service")

    async def register(self, fee_base: int, fee_ppm: int) -> ArbiterRecord:
        """Consent to be drawn, for these fees. Raises LocalFault, Unreachable."""
        if not self._world.network.bondless:
            raise LocalFault("this network asks arbiters for a bond, which this version has not")
        wire.within("fee_base", fee_base, 0, MAX_FEE_BASE)
        wire.within("fee_ppm", fee_ppm, 0, MAX_FEE_PPM)
        record = self._make(fee_base, fee_ppm)
        await self._put(record)
        return record

    def _make(self, fee_base: int, fee_ppm: int) -> ArbiterRecord:
        world = self._world
        at_height = world.chain.tip().height - FRESH_DEPTH
        at_hash = world.chain.block_hash(at_height) if at_height > 0 else None
        if at_hash is None:
            raise LocalFault("the chain is too short for an arbiter's record: wait for blocks")
        point, chain_code = world.keys.arbitration_account()
        record = ArbiterRecord(
            network=world.network,
            node_id=world.me,
            point=point,
            chain_code=chain_code,
            fee_base=fee_base,
            fee_ppm=fee_ppm,
            at_height=at_height,
            at_hash=at_hash,
        )
        return record.signed(world.identity, world.keys.arbitration_key().sign_schnorr)

    async def _put(self, record: ArbiterRecord) -> None:
        holders = await self._registry.publish(record.wire())
        with self._database.transaction():
            self._database.run(
                "INSERT INTO arbiter_service VALUES (1, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET"
                " fee_base = excluded.fee_base, fee_ppm = excluded.fee_ppm,"
                " record = excluded.record, holders = excluded.holders",
                record.fee_base,
                record.fee_ppm,
                record.wire(),
                holders,
            )
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

    async def _keep(self) -> None:
        world, record = self._world, self.record()
        if record is None:
            return
        lag = world.chain.tip().height - FRESH_DEPTH - record.at_height
        gone = world.chain.block_hash(record.at_height) != record.at_hash
        if gone or lag >= RENEW_BLOCKS:
            record = self._make(record.fee_base, record.fee_ppm)
        elif world.clock.now() < self._put_at + REPUT_S:
            return
        await self._put(record)
