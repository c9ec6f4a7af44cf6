"""Expired bonds on their way out: home to the wallet, or into a new bond.

    redeem, renew: build, sign, journal ──▶ on its way ──▶ in a block
                     ▲                        │  offered again on each change of the chain
                     └── refused ─────────────┘

A spend is journaled whole before it is broadcast, so a crash loses nothing: the same bytes are
offered again until the chain shows a spend.
"""

import logging
import math
from typing import Final

import trio

from escrow.backend_redeem import sign_redeem
from escrow.backend_wallet import RETRY_AFTER
from escrow.bond import MAX_TRANSACTION, bond_output
from escrow.rates import FEE_TARGET, chosen_rate
from escrow.redeem import BondCoin, Redeem, build_redeem, is_open
from escrow.shell_bond import Bonds, Held, leaving_of
from escrow.shell_desktop import Desktop
from p2pnode.base.errors import LocalFault, NodeError, PeerFault, Unreachable
from p2pnode.base.transaction import Outpoint, Transaction, display, parse_transaction

log: Final = logging.getLogger(__name__)


class Redemption:
    """Spends this node's expired bonds."""

    def __init__(self, world: Desktop, bonds: Bonds) -> None:
        self._world = world
        self._bonds = bonds

    async def redeem(self, rate: int | None = None) -> Redeem:
        """Send every expired bond to a fresh address of our wallet.

        Raises LocalFault when none has expired, SecondOpinionDiffers, Unreachable when nobody
        knows whether it left: it is offered again.
        """
        async with self._bonds.busy:
            coins, mtp = await self._expired(), self._world.chain.tip().mtp
            rate = await self._rate(rate)
            build_redeem(coins, bytes([0, 20]) + bytes(20), rate, mtp)  # refuses before an
            script = await self._world.purse.fresh_script()  # address is used up
            if not self._world.purse.owns(script):
                raise LocalFault("the wallet does not know its own address: nothing was signed")
            spend = build_redeem(coins, script, rate, mtp)
            final = await self._sign(spend)
            with self._bonds.database.transaction():
                self._keep(spend, final)
                self._tell(spend, final)
            await self._send(final)
        return spend

    async def renew(self, lock_time: int, sat: int | None, rate: int | None = None) -> Held:
        """Lock again: expired bonds into a new one, or, while none has, `sat` of the wallet's.

        Raises what `redeem` and `create` raise.
        """
        if not await self._expired():
            last = (await self._bonds.all())[-1:]
            if not last:
                raise LocalFault("there is no bond to renew: p2pnode arbiter bond create")
            return await self._bonds.create(sat or last[0].sat, lock_time, rate)
        if sat is not None:
            raise LocalFault("amount: an expired bond is renewed whole", field="amount_sat")
        async with self._bonds.busy:
            coins, mtp = await self._expired(), self._world.chain.tip().mtp  # none that just left
            rate = await self._rate(rate)
            least = build_redeem(coins, bytes([0, 32]) + bytes(32), rate, mtp).value
            self._bonds.check_weight(least, lock_time)
            number = self._bonds.begin(lock_time, least)
            script = bond_output(lock_time, self._world.keys.bond_key(number).public)
            try:
                spend = build_redeem(coins, script, rate, mtp)
                if len(spend.tx.serialize()) > MAX_TRANSACTION:
                    raise LocalFault("too many coins lie at your bonds: redeem them, then create")
                final = await self._sign(spend)
            except NodeError:
                self._bonds.drop(number)
                raise
            with self._bonds.database.transaction():
                self._keep(spend, final)
                self._bonds.paid(number, final.txid)
                self._tell(spend, final)
            await self._send(final)
        return await self._bonds.one(number)

    async def _expired(self) -> list[BondCoin]:
        tip = self._world.chain.tip()
        return [
            held.coin
            for held in await self._bonds.all()
            if held.coin and held.height and held.spent is None
            if is_open(held.lock_time, tip.mtp)
        ]

    async def _rate(self, named: int | None) -> int:
        if named is not None:
            return named
        return chosen_rate(self._world.network, await self._world.chain.fee_rate(FEE_TARGET))

    async def _sign(self, spend: Redeem) -> Transaction:
        world = self._world

        def sign() -> Transaction:
            keys = [world.keys.bond_key(c.number) for c in spend.coins]
            return sign_redeem(spend, keys, world.opinions)

        return await trio.to_thread.run_sync(sign)

    def _keep(self, spend: Redeem, final: Transaction) -> None:
        for coin in spend.coins:
            self._bonds.database.run(
                "UPDATE bond SET spend = ? WHERE number = ?", final.serialize(), coin.number
            )

    def _tell(self, spend: Redeem, final: Transaction) -> None:
        self._world.announce.publish(
            "bond", txid=display(final.txid), amount_sat=spend.value, fee_sat=spend.fee_sat
        )

    async def _send(self, final: Transaction) -> None:
        try:
            await self._world.chain.broadcast(final.serialize())
        except LocalFault:
            self._forget(final)
            raise
        except (Unreachable, PeerFault) as error:
            raise Unreachable(
                f"the spend {display(final.txid)} of a bond is signed and will be offered again, "
                f"do not repeat it: {error}"
            ) from None

    def _forget(self, final: Transaction) -> None:
        with self._bonds.database.transaction():
            raw = final.serialize()
            self._bonds.database.run("UPDATE bond SET spend = NULL WHERE spend = ?", raw)

    # -- what is on its way

    async def run(self) -> None:
        """Keep spends on the network until a block holds them; runs until cancelled."""
        while True:
            patience = math.inf
            try:
                async with self._bonds.busy:
                    await self._offer_again()
            except NodeError as error:
                log.info("the spend of a bond waits: %s", error)
                patience = RETRY_AFTER
            with trio.move_on_after(patience):
                await self._world.chain.changed()
            await trio.sleep(1)  # one look a second is enough, however fast blocks come

    async def _offer_again(self) -> None:
        rows = self._bonds.database.all("SELECT * FROM bond WHERE spend IS NOT NULL")
        for row in rows:
            tx, held = leaving_of(row), await self._bonds.look(row)
            if tx is None or held.coin is None:
                continue
            seen = await self._world.chain.sightings(held.script)
            if not any(_spends(s.raw, held.coin.outpoint) for s in seen):
                try:
                    await self._send(tx)
                except LocalFault as error:
                    log.warning("the spend of bond %s came to nothing: %s", held.number, error)


def _spends(raw: bytes, point: Outpoint) -> bool:
    return any(i.outpoint == point for i in parse_transaction("sighting", raw).inputs)
