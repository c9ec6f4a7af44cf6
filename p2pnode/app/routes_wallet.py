"""The wallet's verbs under /v1/wallet. Amounts in satoshi, ids in hex as people read them.

Every answer is as of the chain's last word: the wallet is brought in step first, so a
question without a chain server fails with `unavailable` in place of an old balance.
"""

from typing import Any

from escrow.backend_bdk import Coin, Entry
from escrow.backend_wallet import BdkWallet
from escrow.contract import MAX_RATE
from escrow.store_locks import CoinLocks
from p2pnode.app.routes import Call, Route
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, UsageFault
from p2pnode.base.ports import Chain
from p2pnode.base.transaction import display
from p2pnode.base.units import MAX_SAT


def routes(wallet: BdkWallet, chain: Chain, locks: CoinLocks) -> list[Route]:
    """Return the wallet's routes."""
    verbs = _Verbs(wallet, chain, locks)
    return [
        Route("GET", "/v1/wallet/balance", verbs.balance, summary="What the wallet holds"),
        Route("POST", "/v1/wallet/address", verbs.address, summary="A fresh receiving address"),
        Route("GET", "/v1/wallet/utxos", verbs.utxos, summary="Unspent outputs and their locks"),
        Route("GET", "/v1/wallet/history", verbs.history, summary="Transactions, newest first"),
        Route("POST", "/v1/wallet/send", verbs.send, once=True, summary="Pay to an address"),
    ]


class _Verbs:
    def __init__(self, wallet: BdkWallet, chain: Chain, locks: CoinLocks) -> None:
        self._wallet, self._chain, self._locks = wallet, chain, locks

    def _depth(self, height: int) -> int:
        return max(0, self._chain.tip().height - height + 1) if height else 0

    async def balance(self, _: Call) -> dict[str, Any]:
        await self._wallet.sync()
        balance = self._wallet.balance()
        return {
            "confirmed_sat": balance.confirmed,
            "pending_sat": balance.pending,
            "locked_sat": balance.locked,
            "available_sat": balance.available,
            "height": self._chain.tip().height,
        }

    async def address(self, _: Call) -> dict[str, Any]:
        return {"address": self._wallet.address()}

    async def utxos(self, _: Call) -> list[dict[str, Any]]:
        await self._wallet.sync()
        owners = self._locks.owners()
        return [self._utxo(c, owners.get(c.outpoint)) for c in self._wallet.unspent()]

    def _utxo(self, coin: Coin, trade_id: bytes | None) -> dict[str, Any]:
        return {
            "txid": display(coin.outpoint.txid),
            "vout": coin.outpoint.vout,
            "amount_sat": coin.value,
            "address": self._wallet.address_of(coin.script),
            "height": coin.height,
            "confirmations": self._depth(coin.height),
            "mature": coin.mature,
            "trade_id": trade_id.hex() if trade_id else None,
        }

    async def history(self, _: Call) -> list[dict[str, Any]]:
        await self._wallet.sync()
        return [self._entry(entry) for entry in self._wallet.history()]

    def _entry(self, entry: Entry) -> dict[str, Any]:
        return {
            "txid": display(entry.txid),
            "amount_sat": entry.delta,
            "fee_sat": entry.fee,
            "height": entry.height,
            "confirmations": self._depth(entry.height),
            "chain_time": self._chain.mtp(entry.height) if entry.height else None,
        }

    async def send(self, call: Call) -> dict[str, Any]:
        address = call.text("address")
        try:
            amount = wire.within("amount_sat", call.integer("amount_sat"), 1, MAX_SAT)
            named = call.integer("rate", 0)
            rate = wire.within("rate", named, 1, MAX_RATE) if named else None
        except InvalidRecord as error:
            raise UsageFault(str(error), field=error.field) from None
        await self._wallet.sync()
        txid = await self._wallet.send(address, amount, rate)
        return {"txid": display(txid), "address": address, "amount_sat": amount}
