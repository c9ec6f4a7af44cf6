"""The Chain port over one Electrum server: sandbox, ElectrumX, electrs or Fulcrum.

The server is not trusted with anything it can prove: headers go through `HeaderChain`,
transactions must hash to their txid, a confirmation needs a merkle branch to our header.
It can still withhold; that is what a second server or a node of one's own is for. A
forged proof raises PeerFault to the one who asked; the connection stays.
"""

from typing import Any, Final
from weakref import WeakKeyDictionary

import trio

from escrow import electrum
from escrow.electrum import Refusal
from escrow.shell_electrum import ElectrumLink
from escrow.watched import Memory, Watch
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    NodeError,
    NotFound,
    PeerFault,
    Unreachable,
)
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Sighting, Tip
from p2pnode.base.transaction import (
    Transaction,
    display,
    parse_transaction,
    root_from_branch,
    scripthash,
)

MAX_WATCHED: Final = 20_000
_ATTEMPTS: Final = 3  # at a consistent view while blocks come in
_REFUSED_CODES: Final = (0, 1, 2)


class ElectrumChain(ElectrumLink):
    """One's own view of the chain; `run` keeps it connected. Implements ports.Chain."""

    def __init__(
        self,
        host: str,
        port: int,
        network: Network,
        clock: Clock,
        *,
        timeout: float = 20,
        first_delay: float = 0.1,
    ) -> None:
        super().__init__(host, port, network, clock, timeout=timeout, first_delay=first_delay)
        self._memory = Memory()
        self._seen: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    # -- the port: headers

    def tip(self) -> Tip:
        """Return the last tip seen. Raises Unreachable before the first."""
        if self.headers.height < 0:
            raise self.absence()
        return self.headers.tip()

    def block_hash(self, height: int) -> bytes | None:
        """Return the hash of our chain's block at `height`, or None above the tip."""
        return self.headers.block_hash(height)

    def merkle_root(self, height: int) -> bytes | None:
        """Return the merkle root in our header at `height`, or None above the tip."""
        return self.headers.merkle_root(height)

    def mtp(self, height: int) -> int:
        """Return the median time past at `height`. Raises Unreachable above the tip."""
        if not 0 <= height <= self.headers.height:
            raise Unreachable(f"block {height} is not in our chain of {self.headers.height} yet")
        return self.headers.mtp(height)

    # -- the port: changes

    async def changed(self) -> None:
        """Return when the tip or a watched script has changed since this task's last call.

        The first call of a task returns at once, so nothing that came before it is missed:
        call it from one long-lived task, not from a new task each time.
        """
        task = trio.lowlevel.current_task()
        await trio.lowlevel.checkpoint()
        while self._seen.get(task, 0) == self.version:
            await self.news.wait()
        self._seen[task] = self.version

    # -- the port: scripts

    async def watch(self, script: bytes) -> None:
        """Ask to be told of transactions that touch `script`; kept across reconnects."""
        name = scripthash(script)
        if name not in self.watched:
            if len(self.watched) >= MAX_WATCHED:
                raise LocalFault(f"more than {MAX_WATCHED} scripts are watched already")
            self.watched[name] = Watch(name)
        watch, connection = self.watched[name], self.connection
        if connection is not None and watch.on is not connection:
            try:
                await self.subscribe(connection, watch)
            except Unreachable:
                return  # subscribed again with the next connection

    async def sightings(self, script: bytes) -> tuple[Sighting, ...]:
        """Return the transactions that touch `script`, confirmed ones proven by merkle branch."""
        await self.watch(script)
        watch = self.watched[scripthash(script)]
        for _ in range(_ATTEMPTS):
            await trio.lowlevel.checkpoint()
            if self.connection is None:
                raise self.absence()
            known = watch.recall()
            if known is not None and watch.on is self.connection:
                return known
            status, reorgs = watch.status, self.reorgs
            try:
                found = await self._look(watch.name)
            except Refusal as error:
                await self._again(reorgs, self.refused(error))
                continue
            except InvalidRecord as error:
                await self._again(reorgs, PeerFault(f"the chain server's proof is wrong: {error}"))
                continue
            if reorgs == self.reorgs:
                watch.remember(status, found)
                return found
        raise Unreachable("the chain moves faster than its server answers; try again")

    async def _again(self, reorgs: int, fault: NodeError) -> None:
        """Look for a reorg that explains `fault`; without one raise it."""
        if self.connection is not None:
            await self.refresh(self.connection)
        if reorgs == self.reorgs:
            raise fault

    async def _look(self, name: str) -> tuple[Sighting, ...]:
        answer = await self.ask("blockchain.scripthash.get_history", name)
        found = []
        for txid, height in self.strict(electrum.history, answer):
            if height > self.headers.height and self.connection is not None:
                await self.refresh(self.connection)
            if height > 0:
                await self._prove(txid, height)
            found.append(Sighting(txid, height, await self._fetch_raw(txid)))
        return tuple(found)

    async def _prove(self, txid: bytes, height: int) -> tuple[tuple[bytes, ...], int]:
        """Return the branch from `txid` to our header. Raises InvalidRecord, Refusal."""
        root = self.headers.merkle_root(height)
        if root is None:
            raise InvalidRecord("height", f"{height} is above our tip")
        known = self._memory.proof(txid, root)
        if known is not None:
            return known
        answer = await self.ask("blockchain.transaction.get_merkle", display(txid), height)
        branch, position = electrum.merkle(answer, height)
        if root_from_branch(txid, branch, position) != root:
            raise InvalidRecord("merkle", "does not lead to our block's root")
        self._memory.keep_proof(txid, root, (branch, position))
        return branch, position

    async def _fetch_raw(self, txid: bytes) -> bytes:
        known = self._memory.raw(txid)
        if known is not None:
            return known
        answer = await self.ask("blockchain.transaction.get", display(txid))
        raw: bytes = self.strict(electrum.raw_transaction, answer)
        if self.strict(parse_transaction, "transaction", raw).txid != txid:
            raise PeerFault("the chain server sent another transaction than the one asked for")
        self._memory.keep_raw(txid, raw)
        return raw

    # -- the port: transactions

    async def transaction(self, txid: bytes) -> bytes:
        """Return the raw transaction, checked to hash to `txid`. Raises NotFound if unknown."""
        try:
            return await self._fetch_raw(txid)
        except Refusal:
            raise NotFound(f"the chain server knows no transaction {display(txid)}") from None

    async def proof(self, txid: bytes, height: int) -> tuple[tuple[bytes, ...], int]:
        """Return the merkle branch and position, checked against our header."""
        try:
            return await self._prove(txid, height)
        except Refusal as error:
            raise self.refused(error) from None
        except InvalidRecord as error:
            raise PeerFault(f"the chain server's proof is wrong: {error}") from None

    async def broadcast(self, raw: bytes) -> bytes:
        """Hand a transaction to the network; returns its txid. Known already is success.

        Raises LocalFault with the node's reject reason; the text begins with it.
        """
        tx = parse_transaction("transaction", raw)
        txid = tx.txid
        try:
            answer = await self.ask("blockchain.transaction.broadcast", raw.hex())
        except Refusal as error:
            reason = electrum.reject_reason(error.words)
            if error.code not in _REFUSED_CODES:
                raise self.refused(error) from None
            if electrum.is_known(reason):
                return txid
            if electrum.may_be_confirmed(reason) and tx.outputs and await self._knows(tx):
                return txid
            raise LocalFault(
                f"the network refused the transaction: {reason}", field="transaction"
            ) from None
        if self.strict(electrum.hash_of, "broadcast", answer) != txid:
            raise PeerFault("the chain server answered a broadcast with another txid")
        return txid

    async def _knows(self, tx: Transaction) -> bool:
        """Ask the history of its first output: a node may still show what a reorg orphaned."""
        try:
            name = scripthash(tx.outputs[0].script)
            answer = await self.ask("blockchain.scripthash.get_history", name)
        except Refusal:
            return False
        return tx.txid in dict(self.strict(electrum.history, answer))

    async def fee_rate(self, target: int) -> int | None:
        """Return whole sat/vB to confirm within `target` blocks, or None without an estimate."""
        try:
            answer = await self.ask("blockchain.estimatefee", target)
        except Refusal as error:
            raise self.refused(error) from None
        rate: int | None = self.strict(electrum.fee_rate, answer)
        return rate
