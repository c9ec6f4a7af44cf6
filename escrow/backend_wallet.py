"""The wallet: coins, addresses, payments and signatures of one node.

    chain.changed ──▶ sync: scripts ──Chain.sightings──▶ View ──bdk, in a thread──▶ Snapshot

Everything it says comes from the last snapshot, and a snapshot holds what our own Chain
port proved: a coin counts when a merkle branch ties it to our headers. Pending is shown
and never spent, locked coins belong to a trade (`store_locks`). A payment is journaled
before it is broadcast (`store_wallet`): until a block holds it, its coins are spent and it
is offered again, through any restart. Keys: BIP 84 from the seed words. Money in satoshi;
hashes in internal byte order.
"""

import logging
import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from escrow.backend_bdk import LOOKAHEAD, Coin, Entry, Keys, Snapshot, View
from escrow.backend_signatures import REAL, Opinions
from escrow.backend_signer import build, sign
from escrow.contract import MAX_RATE
from escrow.rates import FEE_TARGET, chosen_rate
from escrow.store_locks import CoinLocks
from escrow.store_wallet import KEYCHAINS, AddressIndex, Payments
from escrow.transport_electrum import together
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault, Misconfigured, NotFound, PeerFault, Unreachable
from p2pnode.base.networks import Network
from p2pnode.base.ports import Chain, Sighting
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint, TxOut, display, parse_transaction
from p2pnode.base.units import MAX_SAT, decimal

log: Final = logging.getLogger(__name__)

FIRST_LOOKAHEAD: Final = 60  # where nothing is known of what was handed out: restored words
RETRY_AFTER: Final = 5  # seconds, when the chain could not be read
_ATTEMPTS: Final = 3
_RECEIVE, _CHANGE = KEYCHAINS


@dataclass(frozen=True, slots=True)
class Balance:
    """Satoshi: confirmed = locked + available; pending comes on top and is not money yet."""

    confirmed: int
    pending: int
    locked: int
    available: int


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a peer needs to believe in a coin: its transaction, stripped, and its proof."""

    stripped: bytes
    height: int
    position: int
    branch: tuple[bytes, ...]


class BdkWallet:
    """One wallet on one network; `run` keeps it in step with the chain."""

    def __init__(
        self,
        words: str,
        network: Network,
        database: Database,
        chain: Chain,
        locks: CoinLocks,
        opinions: Opinions = REAL,
    ) -> None:
        self.network = network
        self._opinions = opinions
        self._keys = Keys(words, network)
        self._chain, self._locks = chain, locks
        self._database = database
        self._index = AddressIndex(database)
        self._payments = Payments(database)
        self._scripts: dict[bytes, tuple[int, int]] = {}
        self._derived: dict[int, int] = dict.fromkeys(KEYCHAINS, 0)
        self._snapshot: Snapshot | None = None
        self._syncing = trio.Lock()

    # -- the chain's side

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the chain until cancelled; started after the first attempt to sync."""
        started = False
        while True:
            read = False
            with suppress(Unreachable, PeerFault, NotFound, Misconfigured):
                await self.sync()  # if not, the last snapshot stands until it can be read again
                read = True
            if not started:
                started = True
                task_status.started()
            with trio.move_on_after(math.inf if read else RETRY_AFTER):
                await self._chain.changed()

    async def sync(self) -> None:
        """Read the chain now. Raises Unreachable or PeerFault; the last snapshot then stands."""
        async with self._syncing:
            for _ in range(_ATTEMPTS):
                tip = self._chain.tip()
                found = await self._gather()
                hashes = {s.height: self._chain.block_hash(s.height) for s in found if s.height}
                if self._chain.block_hash(tip.height) == tip.hash and None not in hashes.values():
                    break
            else:
                raise Unreachable("the chain moves faster than it can be read; try again")
            settled = await self._resend(found)
            shown = settled | {s.txid for s in found}
            view = View(
                tip=tip,
                sightings=found,
                hashes={h: b for h, b in hashes.items() if b is not None},
                unseen=tuple(r for txid, r in self._payments.all().items() if txid not in shown),
                revealed=(self._index.next(_RECEIVE), self._index.next(_CHANGE)),
            )
            if self._snapshot is None or self._snapshot.view != view:
                load = partial(self._keys.snapshot, view)
                self._snapshot = await trio.to_thread.run_sync(load)
            self._payments.forget(settled)  # only now: until the new snapshot they spend coins

    async def _gather(self) -> tuple[Sighting, ...]:
        """Return what touches any script of ours, looking ahead until nothing new turns up."""
        ahead = FIRST_LOOKAHEAD if self._index.fresh else LOOKAHEAD
        while True:
            await self._derive(ahead)
            found: dict[bytes, tuple[Sighting, ...]] = {}

            async def look(script: bytes, found: dict[bytes, Any] = found) -> None:
                found[script] = await self._chain.sightings(script)

            await together([partial(look, script) for script in self._scripts])
            used = dict.fromkeys(KEYCHAINS, -1)
            for script, sightings in found.items():
                keychain, index = self._scripts[script]
                if sightings:
                    used[keychain] = max(used[keychain], index)
            late = [k for k in KEYCHAINS if used[k] >= self._index.next(k)]
            for keychain in late:
                self._index.raise_to(keychain, used[keychain] + 1)
            if not late:
                self._index.fresh = False
                merged = {s.txid: s for seen in found.values() for s in seen}
                return tuple(merged[txid] for txid in sorted(merged))

    async def _derive(self, ahead: int) -> None:
        """Know every script up to `ahead` beyond the last one handed out."""
        wanted = []
        for keychain in KEYCHAINS:
            end = self._index.next(keychain) + ahead
            wanted += [(keychain, n) for n in range(self._derived[keychain], end)]
            self._derived[keychain] = max(self._derived[keychain], end)
        if wanted:
            self._scripts |= await trio.to_thread.run_sync(self._keys.scripts, wanted)

    async def _resend(self, found: Collection[Sighting]) -> set[bytes]:
        """Offer own payments again; returns those confirmed, contradicted or refused by now."""
        spenders = {point: s for s in found for point in _points(s.raw)}
        settled = set()
        for txid, raw in self._payments.all().items():
            seen = next((spenders[p] for p in _points(raw) if p in spenders), None)
            if seen is not None:
                if seen.height or seen.txid != txid:
                    settled.add(txid)
                continue
            try:
                await self._chain.broadcast(raw)
            except LocalFault as error:
                log.warning("payment %s came to nothing: %s", display(txid), error)
                settled.add(txid)
        return settled

    def _current(self) -> Snapshot:
        if self._snapshot is None:
            raise Unreachable("the wallet has not been read from the chain yet; try again")
        return self._snapshot

    # -- money

    def unspent(self) -> tuple[Coin, ...]:
        """Return every unspent output of ours: locked, pending and immature ones too."""
        spent = {point for raw in self._payments.all().values() for point in _points(raw)}
        return tuple(c for c in self._current().unspent if c.outpoint not in spent)

    def coins(self) -> tuple[Coin, ...]:
        """Return the coins that can be spent now: confirmed, mature, unlocked."""
        locked = self._locks.locked()
        return tuple(c for c in self.unspent() if _is_money(c) and c.outpoint not in locked)

    def balance(self) -> Balance:
        """Return the sums over `unspent`. Raises Unreachable before the first sync."""
        unspent, locked = self.unspent(), self._locks.locked()
        confirmed = sum(c.value for c in unspent if _is_money(c))
        held = sum(c.value for c in unspent if _is_money(c) and c.outpoint in locked)
        pending = sum(c.value for c in unspent if not _is_money(c))
        return Balance(confirmed, pending, held, confirmed - held)

    def history(self) -> tuple[Entry, ...]:
        """Return the wallet's transactions, the newest first."""
        return self._current().history

    # -- scripts

    def address(self) -> str:
        """Return a receiving address never handed out before."""
        return self._keys.address(_RECEIVE, self._take(_RECEIVE))

    def script_for_payout(self) -> bytes:
        """Return the script of a fresh receiving address."""
        return self._keys.script(_RECEIVE, self._take(_RECEIVE))

    def change_script(self) -> bytes:
        """Return a change script never handed out before."""
        return self._keys.script(_CHANGE, self._take(_CHANGE))

    def _take(self, keychain: int) -> int:
        index = self._index.take(keychain)
        self._scripts[self._keys.script(keychain, index)] = (keychain, index)
        return index

    def owns_script(self, script: bytes) -> bool:
        """Tell whether a script is ours, as far as we have looked ahead."""
        return script in self._scripts

    def address_of(self, script: bytes) -> str:
        """Return a script's address on this network."""
        return self._keys.address_of(script)

    # -- spending

    def sign_psbt(self, psbt: str, only: Collection[int]) -> str:
        """Sign the inputs `only` and finalise them. Raises InvalidRecord; nothing leaves then.

        `psbt` is base64 (BIP 174). Refused: an input that is not a coin of ours with the
        value and script of our chain, another coin of ours beside `only`, any sighash but
        ALL, unknown fields.
        """
        return sign(self._current(), psbt, only)

    async def send(
        self, address: str, sat: int, rate: int | None = None, *, most_bytes: int = 0
    ) -> bytes:
        """Pay `sat` to `address` at `rate` sat/vB; returns the txid.

        `most_bytes`, if any, bounds the transaction without its witnesses. Raises InvalidRecord
        for the address, LocalFault without enough unlocked confirmed coins, for a fee out of
        proportion or when the network refuses, SecondOpinionDiffers, Unreachable when nobody
        knows whether it left: it is offered again.
        """
        script = self._keys.script_of("address", address)
        wire.within("amount_sat", sat, 1, MAX_SAT)
        if rate is None:
            rate = chosen_rate(self.network, await self._chain.fee_rate(FEE_TARGET))
        wire.within("rate", rate, 1, MAX_RATE)
        index = self._index.next(_CHANGE)
        change = self._keys.script(_CHANGE, index)
        raw = self._build(TxOut(sat, script), change, rate)
        tx = parse_transaction("transaction", raw)
        if most_bytes and len(tx.serialize(witness=False)) > most_bytes:
            raise LocalFault(
                f"the payment would gather {len(tx.inputs)} small coins, too many to be shown in "
                "a record: send the amount to an address of your own first",
                field="amount_sat",
            )
        txid = tx.txid
        with self._database.transaction():
            self._index.raise_to(_CHANGE, index + 1)
            self._payments.add(txid, raw)  # from here on its coins are spent, whatever happens
        self._scripts[change] = (_CHANGE, index)
        try:
            await self._chain.broadcast(raw)
        except LocalFault:
            self._payments.forget([txid])
            raise
        except (Unreachable, PeerFault) as error:
            raise Unreachable(
                f"payment {display(txid)} is signed and will be offered again, do not repeat it: "
                f"{error}"
            ) from None
        return txid

    def _build(self, to: TxOut, change: bytes, rate: int) -> bytes:
        try:
            return build(self._current(), self.coins(), to, change, rate, self._opinions)
        except LocalFault as error:
            if str(error) != "not enough funds":
                raise
            have = self.balance()
            locked = f", {decimal(have.locked, 8)} BTC locked in trades" if have.locked else ""
            pending = f", {decimal(have.pending, 8)} BTC not confirmed" if have.pending else ""
            raise LocalFault(
                f"not enough funds: {decimal(to.value, 8)} BTC and the fee are asked for, "
                f"{decimal(have.available, 8)} BTC is available{locked}{pending}",
                field="amount_sat",
            ) from None

    async def declared(self, outpoint: Outpoint) -> Declaration:
        """Return what a peer needs to check a confirmed coin of ours. Raises LocalFault."""
        coin = self._current().outputs.get(outpoint)
        if coin is None or not coin.height:
            raise LocalFault(f"coin {outpoint} is not a confirmed coin of ours", field="outpoint")
        raw = await self._chain.transaction(outpoint.txid)
        branch, position = await self._chain.proof(outpoint.txid, coin.height)
        stripped = parse_transaction("transaction", raw).serialize(witness=False)
        return Declaration(stripped, coin.height, position, branch)


def _is_money(coin: Coin) -> bool:
    return coin.height > 0 and coin.mature


def _points(raw: bytes) -> list[Outpoint]:
    return [i.outpoint for i in parse_transaction("transaction", raw).inputs]
