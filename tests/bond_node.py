"""An arbiter's rooms on a sandbox chain: wallet, bonds, record, and a registry that is a list."""

from collections.abc import Sequence
from typing import Any

import trio
from chain_kit import NET, Purse, Rig, eventually
from earnings_kit import ARBITER_ID, KEYS
from escrow_tx_kit import WORDS

from escrow.arbiters import ArbiterRecord
from escrow.backend_signatures import REAL, Opinions
from escrow.shell_arbiter import ArbiterService
from escrow.shell_bond import Bonds, Held
from escrow.shell_desktop import Desktop
from escrow.shell_redeem import Redemption
from escrow.store_journal import Journal
from p2pnode.app import fit
from p2pnode.app.events import Events
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.networks import Network
from p2pnode.base.store import Database

SAT = 5_000_000
RATE = 2


class Shelf:
    """The arbiters' registry: what was put, in order."""

    def __init__(self) -> None:
        self.put: list[bytes] = []

    async def publish(self, raw: bytes) -> int:
        await trio.lowlevel.checkpoint()
        self.put.append(raw)
        return 3

    async def find(self) -> Sequence[bytes]:
        await trio.lowlevel.checkpoint()
        return self.put


class Arbiter:
    """An arbiter's rooms over a rig; a second one on the same database is a restart."""

    def __init__(
        self,
        r: Rig,
        database: Database | None = None,
        *,
        network: Network = NET,
        opinions: Opinions = REAL,
    ) -> None:
        self.rig, self.shelf = r, Shelf()
        self.purse = Purse(r, database, words=WORDS["A"])
        self.database = self.purse.database
        self.world = Desktop(
            identity=ARBITER_ID,
            network=network,
            journal=Journal(self.database, NET),
            locks=self.purse.locks,
            clock=SystemClock(),
            randomness=SystemRandomness(),
            chain=r.chain,
            purse=fit.WalletPurse(self.purse.wallet),
            keys=KEYS["A"],
            desk=None,  # type: ignore[arg-type]  # an arbiter makes no offers
            announce=Events(self.database),
            opinions=opinions,
        )
        self.bonds = Bonds(self.world, self.database)
        self.redemption = Redemption(self.world, self.bonds)
        self.service = ArbiterService(self.world, self.shelf, self.database, self.bonds)

    async def bonded(self, sat: int = SAT, days: int = 1) -> Held:
        """Make a bond and wait until it can be drawn."""
        held = await self.bonds.create(sat, self.bonds.lock_until(days, None), RATE)
        self.rig.mine(9)
        await self.stands(held.number, "drawable")
        return await self.bonds.one(held.number)

    async def stands(self, number: int, state: str) -> str:
        """Wait until a bond is in this state; returns what is said of it."""

        async def there() -> str:
            await self.synced()
            found = self.bonds.standing(await self.bonds.one(number))
            assert found[0] == state, found
            return found[1]

        note: str = await eventually(there)
        return note

    async def synced(self) -> None:
        async def there() -> None:
            assert self.rig.chain.tip().hash == self.rig.box.chain.tip

        await eventually(there)

    async def expire(self) -> None:
        """Let a day and more pass by the chain's clock."""
        self.rig.mine(20, step=7200)
        await self.synced()

    def record(self) -> ArbiterRecord:
        record = self.service.record()
        assert record is not None
        return record


async def funded(r: Rig, *sats: int, **options: Any) -> Arbiter:
    made = Arbiter(r, **options)
    await made.purse.funded(*(sats or (8_000_000,)))
    return made


def in_mempool(r: Rig) -> list[bytes]:
    return [e.tx.serialize() for e in r.box.pool.entries.values()]
