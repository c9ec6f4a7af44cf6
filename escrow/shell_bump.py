"""Hurrying what waits unconfirmed: a child of ours pays for its parent (CPFP).

One child for a parent and rate, journalled before it is broadcast, so that a crash makes no
second one; a higher estimate replaces it (BIP 125). What cannot be hurried waits.
"""

import logging
from functools import partial
from typing import Final

import trio

from escrow.bump import child, coin
from escrow.contract import MAX_RATE
from escrow.facts import Facts
from escrow.funding import Funding
from escrow.rates import FEE_TARGET
from escrow.shell_trades import Trades
from escrow.store_journal import Row
from p2pnode.base.errors import LocalFault
from p2pnode.base.transaction import Outpoint, Transaction, parse_transaction

log: Final = logging.getLogger(__name__)


SETTLE_S: Final = 30  # from when a parent looks stuck until a child costs us anything


class Bumps:
    """Makes and keeps the children of one node's trades."""

    def __init__(self, trades: Trades) -> None:
        self._trades = trades
        self._world = trades.world
        self._waits: dict[bytes, int] = {}  # since when a parent is asked to be hurried

    async def hurry(self, row: Row, raw: bytes) -> None:
        """Broadcast a child that makes miners take `raw` too. Raises Unreachable, LocalFault."""
        world, facts = self._world, self._trades.facts(row)
        parent = parse_transaction("parent", raw)
        since = self._waits.setdefault(parent.txid, world.clock.now())
        if world.clock.now() < since + SETTLE_S:
            return  # a server tells of blocks before it tells what they confirm
        fee = _fee(parent, facts)
        estimate = await world.chain.fee_rate(FEE_TARGET)
        rate = min(max(estimate or 0, 2 * (fee // parent.vsize)), MAX_RATE)
        kept = world.journal.child(parent.txid)
        if kept is None or kept[1] < rate:
            made = await self._make(row, facts, parent, rate)
            if made is None:
                return
            with world.journal.database.transaction():
                world.journal.keep_child(parent.txid, made, rate)
            kept = (made, rate)
        await world.chain.broadcast(kept[0])

    async def children_fee(self, funding: Funding) -> int:
        """Return what children of the funding pay, in satoshi, as far as our chain shows them.

        Whoever replaces the funding replaces them too, and pays more than all (BIP 125, rule 3).
        """
        point, found = funding.escrow_outpoint, {}
        for n, paid in enumerate(funding.tx.outputs):
            if n == point.vout:
                continue
            await self._world.chain.watch(paid.script)
            for seen in await self._world.chain.sightings(paid.script):
                tx = parse_transaction("child", seen.raw)
                if not seen.height and [i.outpoint for i in tx.inputs] == [Outpoint(point.txid, n)]:
                    found[seen.txid] = paid.value - sum(o.value for o in tx.outputs)
        return sum(found.values())

    async def _make(self, row: Row, facts: Facts, parent: Transaction, rate: int) -> bytes | None:
        world = self._world
        await world.purse.spendable()  # the wallet must know the output that it signs for
        ours = [n for n, o in enumerate(parent.outputs) if world.purse.owns(o.script)]
        if not ours:
            return None
        try:
            tx = child(parent, ours[0], _fee(parent, facts), facts.own.part.script, rate)
        except LocalFault as error:
            log.info("trade %s: not hurried: %s", row.trade_id.hex()[:16], error)
            return None
        sign = partial(world.purse.sign_psbt, only=[0])
        bench = self._trades.bench(row)
        return await trio.to_thread.run_sync(bench.sign_child, tx, coin(parent, ours[0]), sign)


def _fee(parent: Transaction, facts: Facts) -> int:
    """Return what a funding or a payout pays itself, in satoshi."""
    funding = facts.funding
    if funding is not None and parent.txid == funding.escrow_outpoint.txid:
        return funding.fee_sat
    return facts.contract.escrow_sat - sum(o.value for o in parent.outputs)
