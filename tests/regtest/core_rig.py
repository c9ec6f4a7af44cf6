"""Whole trading halves in one process, on a real bitcoind behind a real Electrum server.

The rig of `trade_kit` with the sandbox taken out: its nodes, streams and waits, bitcoind's
chain, mempool and clock. Every sum is recounted by bitcoind, from the transactions as it
decodes them and from the traders' seed words, whose coins it finds by itself.
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any

import trio
from regtest_kit import Bitcoind, value
from trade_kit import AMOUNT, Hook, Node, Rig, rig

from escrow.contract import KIND_2OF3, KIND_BACKUP, Contract
from escrow.messages import Kind
from escrow.model import Closed
from escrow.payout import Branch, Split
from escrow.terms import Terms
from p2pnode.base.transaction import display

KINDS = (KIND_BACKUP, KIND_2OF3)
OPENING = 3_000_000
DEP_B, DEP_S = AMOUNT // 10, AMOUNT * 15 // 100
ESCROW = AMOUNT + DEP_B + DEP_S
ARBITER_FEE = 1000 + AMOUNT // 1000
# Sizes of docs/wire/transactions.md, in weight units.
COIN_INPUT, P2WPKH_OUTPUT, FUNDING_COMMON, PAYOUT_COMMON = 272, 124, 214, 42
ESCROW_INPUT = {
    (KIND_2OF3, Branch.MAIN): 418,
    (KIND_BACKUP, Branch.MAIN): 530,
    (KIND_BACKUP, Branch.BACKUP): 533,
}
# What those make, in virtual bytes, for payouts of two and of three outputs.
SIZES = {
    (KIND_2OF3, Branch.MAIN): {2: 177, 3: 208},
    (KIND_BACKUP, Branch.MAIN): {2: 205, 3: 236},
    (KIND_BACKUP, Branch.BACKUP): {2: 206, 3: 237},
}


def fee_for(weight: int, rate: int) -> int:
    return -(-rate * weight // 4)


def funding_fees(contract: Contract) -> tuple[int, int]:
    """Return what buyer and seller pay for the funding, with one coin and a change each."""
    own = COIN_INPUT + P2WPKH_OUTPUT
    if not contract.dep_b:  # a buyer who brings no coin
        return 0, fee_for(FUNDING_COMMON + own, contract.rate)
    share = fee_for(FUNDING_COMMON // 2 + own, contract.rate)
    return share, share


class CoreBox:
    """bitcoind as the rig speaks to a sandbox."""

    def __init__(self, core: Bitcoind, endpoint: str) -> None:
        self.core = core
        self._port = int(endpoint.rpartition(":")[2])

    async def serve(self, _port: int, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started(self._port)

    def flush(self) -> None:
        """Nothing: the real server follows by itself."""

    def close(self) -> None:
        """Nothing: the node outlives the rig."""

    @property
    def height(self) -> int:
        return int(self.core.rpc("getblockcount"))

    @property
    def chain(self) -> Any:
        return SimpleNamespace(tip=internal(self.core.rpc("getbestblockhash")))

    def mine(self, count: int, step: int) -> None:
        self.core.mine(count, step=step)

    def fund(self, script: bytes, sat: int) -> str:
        return self.core.fund(self.address(script), sat)

    def address(self, script: bytes) -> str:
        decoded = self.core.rpc("decodescript", script.hex())
        return str(decoded["address"])

    def broadcast(self, raw: bytes) -> str:
        return str(self.core.rpc("sendrawtransaction", raw.hex()))


class CoreRig(Rig):
    """Maker, taker and arbiters on bitcoind's chain."""

    box: CoreBox
    patience = 60  # seconds; the real servers start and follow at their own pace

    @property
    def core(self) -> Bitcoind:
        return self.box.core

    def mempool(self) -> set[bytes]:
        return set(map(internal, self.core.rpc("getrawmempool")))

    def mtp(self) -> int:
        return self.core.median_time(self.core.rpc("getbestblockhash"))

    def wait_until(self, mtp: int) -> None:
        """Mine seven blocks, so that the chain's median time past is there, and little more."""
        self.mine(1, max(1, mtp - self.core.clock))
        self.mine(6, 1)
        assert self.mtp() >= mtp

    async def begin(self, kind: str, **change: Any) -> bytes:
        """Take an offer of that kind of escrow; returns the trade, its funding published."""
        trade_id = await self.take(self.offer(escrow_kinds=(kind,), **change))
        await self.published(trade_id)
        assert self["maker"].facts(trade_id).contract.escrow_kind == kind
        return trade_id

    async def in_pool(self, txid: bytes) -> dict[str, Any]:
        """Wait until bitcoind's mempool holds a transaction; returns its entry."""

        async def there() -> dict[str, Any]:
            self.poke()
            found: dict[str, Any] = self.core.rpc("getrawmempool", True)
            assert display(txid) in found, f"{display(txid)} is not among {list(found)}"
            return found[display(txid)]

        entry: dict[str, Any] = await self.eventually(there)
        return entry

    async def payout(self, trade_id: bytes, *besides: bytes) -> bytes:
        """Wait until bitcoind's mempool spends the escrow; returns the spend's txid."""
        point = self["maker"].facts(trade_id).outpoint

        async def there() -> bytes:
            self.poke()
            spend = self.core.spender(str(point).partition(":")[0], point.vout)
            assert spend, "nothing spends the escrow"
            assert internal(spend) not in besides, "it is spent as before"
            return internal(spend)

        txid: bytes = await self.eventually(there)
        return txid

    async def closed(self, trade_id: bytes, outcome: str) -> None:
        """Let the payout be mined: 5 deep nothing has ended, 6 deep all has."""
        await self.payout(trade_id)
        self.mine(5)
        await self.deep(trade_id, 5)
        for name in ("maker", "taker"):
            await self.quiet(name, trade_id)
            assert not isinstance(self[name].state(trade_id), Closed)
        self.mine()
        await self.ended(trade_id, outcome)

    async def deep(self, trade_id: bytes, depth: int) -> None:
        """Wait until both traders see the payout that deep."""

        async def there() -> None:
            for name in ("maker", "taker"):
                view = self[name].facts(trade_id).view
                assert view is not None
                assert view.depth_of(view.spend) == depth, (name, view)

        await self.synced()
        await self.eventually(there)

    async def deposit(self, trade_id: bytes, depth: int) -> None:
        """Wait until both traders see the escrow's deposit that deep."""

        async def there() -> None:
            for name in ("maker", "taker"):
                view = self[name].facts(trade_id).view
                assert view is not None
                assert view.funding_height is not None
                assert view.funding_depth == depth, (name, view)

        await self.eventually(there)

    async def ended(self, trade_id: bytes, outcome: str) -> None:
        await self.both(trade_id, Closed)
        for name in ("maker", "taker"):
            state = self[name].state(trade_id)
            assert isinstance(state, Closed)
            assert state.outcome == outcome
            assert not self[name].locked()

    # -- the money

    async def holds(self, name: str, sat: int) -> None:
        """Compare a wallet's confirmed coins with bitcoind's own search of its keys."""
        assert self.core.holdings(self[name].words) == sat, name
        await self.eventually(lambda: self._funded(name, sat))

    def check_funding(self, trade_id: bytes) -> dict[str, Any]:
        """Recount the funding, as bitcoind reads it."""
        facts = self["maker"].facts(trade_id)
        point, contract = facts.outpoint, facts.contract
        tx = self.core.decoded(display(point.txid))
        escrow = tx["vout"][point.vout]
        assert value(escrow) == contract.escrow_sat == AMOUNT + contract.dep_b + DEP_S
        assert escrow["scriptPubKey"]["type"] == "witness_v0_scripthash"
        sides = 2 if contract.dep_b else 1
        assert (len(tx["vin"]), len(tx["vout"])) == (sides, sides + 1)
        assert self.core.fee(tx) == sum(funding_fees(contract))
        assert contract.rate <= 4 * self.core.fee(tx) / tx["weight"] < contract.rate * 1.02
        return tx

    async def settled(
        self,
        trade_id: bytes,
        split: Split,
        *,
        branch: Branch = Branch.MAIN,
        rate: int = 0,
        besides: Mapping[str, int] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Recount the payout and both wallets to the satoshi; returns it decoded.

        `rate` is the contract's unless named; `besides` what a trader has paid more.
        """
        state = self["maker"].state(trade_id)
        assert isinstance(state, Closed)
        facts = self["maker"].facts(trade_id)
        contract, point = facts.contract, facts.outpoint
        tx = self.core.decoded(display(state.txid))
        (spent,) = tx["vin"]
        assert f"{spent['txid']}:{spent['vout']}" == str(point)
        outputs = sum(part > 0 for part in split.array())
        weight = PAYOUT_COMMON + ESCROW_INPUT[contract.escrow_kind, branch]
        fee = fee_for(weight + outputs * P2WPKH_OUTPUT, rate or contract.rate)
        buyer, seller = split.buyer_sat, split.seller_sat
        paid = (buyer - fee, seller) if buyer >= seller else (buyer, seller - fee)
        wanted = [part for part in (*paid, split.arbiter_sat) if part]
        assert [value(o) for o in tx["vout"]] == wanted
        assert self.core.fee(tx) == fee
        size = SIZES[contract.escrow_kind, branch][outputs]
        assert size - 1 <= tx["vsize"] <= size
        assert spent["sequence"] == (contract.n if branch else 0xFFFFFFFD)
        locked = (contract.dep_b, contract.amount_sat + contract.dep_s)
        for name in ("maker", "taker"):
            side = 0 if self[name].id == contract.buyer else 1
            spent_sat = locked[side] + funding_fees(contract)[side] + besides.get(name, 0)
            await self.holds(name, OPENING - spent_sat + paid[side])
        return tx


def internal(txid: str) -> bytes:
    return bytes.fromhex(txid)[::-1]


@asynccontextmanager
async def core_rig(
    core: Bitcoind,
    endpoint: str,
    *,
    arbiters: int = 3,
    sats: Sequence[int] = (OPENING,),
    hook: Hook | None = None,
) -> AsyncIterator[CoreRig]:
    """New people on a chain that lives on: funded traders, registered arbiters."""
    box = CoreBox(core, endpoint)

    def make(nursery: trio.Nursery) -> CoreRig:
        return CoreRig(nursery, box, box, secrets.token_bytes(16))

    async with rig(arbiters=arbiters, sats=sats, hook=hook, make=make) as made:
        assert isinstance(made, CoreRig)
        yield made


__all__ = ["AMOUNT", "CoreRig", "Kind", "Node", "Terms", "core_rig", "display", "internal"]
