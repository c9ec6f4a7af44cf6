"""Makes the receipts of one's own trades: when one closes, and at the start for all that have.

Only our own journal and chain are asked. A receipt whose blocks have been reorganised away is
made again, from where both transactions stand then.
"""

import logging
from typing import Final

import trio

from escrow.model import Closed
from escrow.proven import Proven
from escrow.receipt_of import Place, receipt_of
from escrow.script import escrow_script
from escrow.shell_standing import Standing
from escrow.shell_trades import Trades
from p2pnode.base.errors import InvalidRecord, LocalFault, Misconfigured, NodeError, NotFound
from p2pnode.base.ports import Sighting

log: Final = logging.getLogger(__name__)

TICK_S: Final = 2.0


class Receipts:
    """One's own receipts, kept complete."""

    def __init__(self, trades: Trades, standing: Standing) -> None:
        self._trades, self._world = trades, trades.world
        self._store = standing.store
        self._none: set[bytes] = set()  # closed trades that give no receipt
        self._busy = trio.Lock()

    async def run(self) -> None:
        """Make what lacks until cancelled."""
        while True:
            try:
                await self.make()
            except NodeError as error:
                log.info("a receipt waits: %s", error)
            await trio.sleep(TICK_S)

    async def make(self) -> None:
        """Make every receipt that can be made now and is not there. Raises Unreachable."""
        async with self._busy:
            own = {p.trade_id: p for p in self._store.own()}
            for trade_id in self._store.closed():
                if trade_id in self._none or self._holds(own.get(trade_id)):
                    continue
                await trio.lowlevel.checkpoint()  # at the first start there may be many
                try:
                    await self._make(trade_id)
                except (LocalFault, NotFound, InvalidRecord) as error:
                    self._none.add(trade_id)
                    log.info("trade %s: %s", trade_id.hex()[:16], error)

    def _holds(self, proven: Proven | None) -> bool:
        try:
            return proven is not None and proven.stands(self._world.chain)
        except Misconfigured:
            return proven is not None

    async def _make(self, trade_id: bytes) -> None:
        row = self._trades.row(trade_id)
        facts = self._trades.facts(row)
        if not isinstance(row.state, Closed) or facts.settled_contract is None:
            raise LocalFault("its papers are lost: it gives no receipt")
        root = self._world.keys.escrow_root(trade_id)
        receipt_of(
            facts, row.state, _NOWHERE, _NOWHERE, root=root
        )  # raises before the chain is asked
        seen = await self._world.chain.sightings(escrow_script(facts.contract))
        places = []
        for txid in (facts.outpoint.txid, row.state.txid):
            found = next((s for s in seen if s.txid == txid), None)
            if found is None or not found.height:
                return  # reorganised away: it goes out again by itself
            places.append(await self._place(found))
        receipt = receipt_of(facts, row.state, *places, root=root)
        receipt.check_papers()
        try:
            proven = receipt.proven(self._world.chain)
        except InvalidRecord as error:  # not six deep again after a reorg, or the chain moved
            log.info("trade %s has no receipt yet: %s", trade_id.hex()[:16], error)
            return
        self._store.keep_own(receipt.wire(), proven)

    async def _place(self, seen: Sighting) -> Place:
        branch, position = await self._world.chain.proof(seen.txid, seen.height)
        return seen.height, position, branch

    def raw(self, trade_id: bytes) -> bytes:
        """Return the bytes of one's own receipt, empty without one."""
        return self._store.own_raw(trade_id)


_NOWHERE: Final[Place] = (1, 0, ())
