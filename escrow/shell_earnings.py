"""The arbiter's earnings: seen through our own chain, swept to our own wallet.

    earned ──withdraw: build, sign, journal──▶ on its way ──6 deep──▶ forgotten
      ▲                                         │  offered again on each change of the chain
      └── refused, or spent by another ─────────┘

A withdrawal is journaled whole before it is broadcast, so a crash loses nothing: the same bytes
are offered again. What the journal holds is spent for us, however late the server shows it;
everything else the chain decides.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from escrow.backend_sweep import sign_sweep
from escrow.backend_wallet import RETRY_AFTER
from escrow.confirm import FINAL_DEPTH
from escrow.earnings import Claim, Earning, Sweep, build_sweep, claim_of, unspent, worth_sweeping
from escrow.model import ClosedCase, RuledCase
from escrow.rates import FEE_TARGET, chosen_rate
from escrow.script import p2wpkh
from escrow.shell_desktop import Desktop
from escrow.shell_trades import Trades
from escrow.store_journal import ARBITER
from escrow.transport_electrum import together
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    NodeError,
    PeerFault,
    Unreachable,
)
from p2pnode.base.transaction import Transaction, display, parse_transaction

log: Final = logging.getLogger(__name__)

_SCRIPTS: Final = (
    """
    CREATE TABLE withdrawal (
        txid BLOB PRIMARY KEY, raw BLOB NOT NULL, began INTEGER NOT NULL
    ) STRICT
    """,
)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What has left: txid in internal order, satoshi that arrive, fee, outputs swept."""

    txid: bytes
    value: int
    fee_sat: int
    count: int


class Earnings:
    """Finds and withdraws what this node has earned by its verdicts."""

    def __init__(self, trades: Trades) -> None:
        self._trades = trades
        self._database = trades.world.journal.database
        self._claims: dict[bytes, Claim] = {}
        self._busy = trio.Lock()
        self._database.migrate("earnings", _SCRIPTS)

    @property
    def _world(self) -> Desktop:
        return self._trades.world

    # -- seeing

    async def earned(self) -> tuple[Earning, ...]:
        """Return every fee that is confirmed and unspent. Raises Unreachable, PeerFault."""
        return tuple(e for e in await self.seen() if e.height > 0)

    async def seen(self) -> tuple[Earning, ...]:
        """Return the same with what is pending, at height 0, ascending by outpoint."""
        found: list[Earning] = []

        async def look(claim: Claim) -> None:
            found.extend(unspent(claim, await self._world.chain.sightings(claim.script)))

        await together([partial(look, claim) for claim in self._known().values()])
        leaving = {i.outpoint for tx in self._leaving() for i in tx.inputs}
        left = (e for e in found if e.outpoint not in leaving)
        return tuple(sorted(left, key=lambda e: e.outpoint))

    def _known(self) -> dict[bytes, Claim]:
        """Return what each ruled case may have earned; a contract never changes."""
        for row in self._world.journal.rows(ARBITER):
            if row.trade_id in self._claims or not isinstance(row.state, (RuledCase, ClosedCase)):
                continue
            try:
                self._claims[row.trade_id] = claim_of(self._trades.case(row))
            except InvalidRecord as error:
                log.warning("case %s shows no earnings: %s", row.trade_id.hex()[:16], error)
        return self._claims

    def _leaving(self) -> list[Transaction]:
        rows = self._database.all("SELECT raw FROM withdrawal ORDER BY began, txid")
        return [parse_transaction("withdrawal", r["raw"]) for r in rows]

    # -- withdrawing

    async def withdraw(self, rate: int | None = None) -> Withdrawal:
        """Send everything earned to a fresh address of our wallet at `rate` sat/vB.

        Raises LocalFault when nothing or too little would arrive or the network refuses,
        InvalidRecord for the rate, SecondOpinionDiffers, Unreachable when nobody knows
        whether it left: it is offered again.
        """
        async with self._busy:
            await self._offer_again()
            earned = await self.earned()
            if rate is None:
                estimate = await self._world.chain.fee_rate(FEE_TARGET)
                rate = chosen_rate(self._world.network, estimate)
            worth_sweeping(earned, rate)  # refuses before an address is used up
            sweep, final = await self._build(earned, rate)
            with self._database.transaction():
                self._database.run(
                    "INSERT INTO withdrawal VALUES (?, ?, ?)",
                    final.txid,
                    final.serialize(),
                    self._world.clock.now(),
                )
                self._world.announce.publish(
                    "withdrawal",
                    txid=display(final.txid),
                    amount_sat=sweep.value,
                    fee_sat=sweep.fee_sat,
                )
            await self._send(final)
        return Withdrawal(final.txid, sweep.value, sweep.fee_sat, len(sweep.earnings))

    async def _build(self, earned: Sequence[Earning], rate: int) -> tuple[Sweep, Transaction]:
        world = self._world
        script = await world.purse.fresh_script()
        if not world.purse.owns(script):
            raise LocalFault("the wallet does not know its own address: nothing was signed")
        sweep = build_sweep(earned, self._claims, script, rate, world.chain.tip().height)

        def sign() -> Transaction:
            claims = (self._claims[e.trade_id] for e in sweep.earnings)
            keys = [world.keys.arbiter_key(c.seed, c.bond) for c in claims]
            return sign_sweep(sweep, keys, world.network, world.opinions)

        return sweep, await trio.to_thread.run_sync(sign)

    async def _send(self, final: Transaction) -> None:
        try:
            await self._world.chain.broadcast(final.serialize())
        except LocalFault:
            self._forget(final)
            raise
        except (Unreachable, PeerFault) as error:
            raise Unreachable(
                f"withdrawal {display(final.txid)} is signed and will be offered again, do not "
                f"repeat it: {error}"
            ) from None

    def _forget(self, tx: Transaction) -> None:
        with self._database.transaction():
            self._database.run("DELETE FROM withdrawal WHERE txid = ?", tx.txid)

    # -- what is on its way

    async def run(self) -> None:
        """Keep withdrawals on the network until they are deep; runs until cancelled."""
        while True:
            patience = math.inf
            try:
                async with self._busy:
                    await self._offer_again()
            except NodeError as error:
                log.info("a withdrawal waits: %s", error)
                patience = RETRY_AFTER
            with trio.move_on_after(patience):
                await self._world.chain.changed()
            await trio.sleep(1)  # one look a second is enough, however fast blocks come

    async def _offer_again(self) -> None:
        chain = self._world.chain
        for tx in self._leaving():
            scripts = {p2wpkh(i.witness[1]) for i in tx.inputs}
            seen = [s for script in sorted(scripts) for s in await chain.sightings(script)]
            own = max((s.height for s in seen if s.txid == tx.txid), default=None)
            if own is None:
                await self._again(tx)  # refused if another spend has come before it
            elif own and chain.tip().height - own + 1 >= FINAL_DEPTH:
                self._forget(tx)

    async def _again(self, tx: Transaction) -> None:
        try:
            await self._send(tx)
        except LocalFault as error:
            log.warning("withdrawal %s came to nothing: %s", display(tx.txid), error)
