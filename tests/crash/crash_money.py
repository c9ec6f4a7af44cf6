"""What every trader and arbiter must hold, recomputed from the raw blocks and the written rules.

Shares no code with the node: blocks by `independent_decoder`, sums by docs/wire.md,
"Transactions". Every coin and output here is P2WPKH; a side funds with one coin and has change.
"""

import sqlite3
from contextlib import closing
from typing import Any

import independent_decoder as decoder

WALLETS = ("maker", "taker")
Trade = dict[str, Any]


def fee(rate: int, weight: int) -> int:
    return -(-rate * weight // 4)


def funding_share(rate: int) -> int:
    return fee(rate, 107 + 272 + 124)


def payout_fee(rate: int, outputs: int) -> int:
    return fee(rate, 42 + 530 + 124 * outputs)  # the kind with a backup branch


class Ledger:
    """Follows the money of two traders through many trades."""

    def __init__(self, net: Any) -> None:
        self._net = net
        self.expected = dict.fromkeys(WALLETS, 50000000)
        self.earned: dict[str, int] = {}
        self._escrows: dict[tuple[str, int], tuple[int, ...]] = {}  # outpoint: its outputs

    def released(self, trade: Trade, buyer: str, seller: str) -> None:
        """The buyer got the amount and his deposit less the fee, the seller his deposit."""
        cost = payout_fee(trade["rate"], 2)
        self._settled(
            trade,
            {buyer: trade["amount_sat"] + trade["deposit_buyer_sat"] - cost},
            {seller: trade["deposit_seller_sat"]},
            0,
        )

    def ruled(self, trade: Trade, buyer: str, seller: str, buyer_sat: int) -> None:
        """The verdict's split; its fee comes off the larger share, here the seller's."""
        rest = trade["escrow_sat"] - trade["arbiter_fee_sat"] - buyer_sat
        assert rest > buyer_sat
        cost = payout_fee(trade["rate"], 3)
        arbiter = trade["arbiter"]
        self.earned[arbiter] = self.earned.get(arbiter, 0) + trade["arbiter_fee_sat"]
        self._settled(trade, {buyer: buyer_sat}, {seller: rest - cost}, trade["arbiter_fee_sat"])

    def _settled(
        self, trade: Trade, to_buyer: dict[str, int], to_seller: dict[str, int], fee_a: int
    ) -> None:
        ((buyer, gets_b),), ((seller, gets_s),) = to_buyer.items(), to_seller.items()
        share = funding_share(trade["rate"])
        self.expected[buyer] += gets_b - trade["deposit_buyer_sat"] - share
        self.expected[seller] += gets_s - trade["amount_sat"] - trade["deposit_seller_sat"] - share
        point = (trade["escrow_txid"], trade["escrow_vout"])
        paid = (gets_b, gets_s, fee_a) if fee_a else (gets_b, gets_s)
        self._escrows[point] = paid

    def respent(self, buyer: str, rate: int) -> None:
        """The buyer replaced a funding: fee by BIP 125, rules 3 and 4."""
        weight = 42 + 272 + 124
        self.expected[buyer] -= max(
            fee(2 * rate, weight), 2 * funding_share(rate) + -(-weight // 4)
        )

    def check(self) -> None:
        """Compare the chain, each wallet and each lock with what must be."""
        chain = decoder.decode_chain(self._net.blocks())
        coins = decoder.unspent(chain)
        for name in WALLETS:
            held = self._net.client(name).get("/v1/wallet/utxos")
            for coin in held:
                out = coins[(coin["txid"], coin["vout"])]
                assert (out.value, out.address) == (coin["amount_sat"], coin["address"]), name
                assert coin["trade_id"] is None, f"{name} still has a coin locked"
            owned = {name: {coin["address"] for coin in held}}
            assert decoder.balances(chain, owned)[name] == self.expected[name], name
            assert not self._locks(name), f"{name} still holds locks, of spent coins perhaps"
        for point, paid in self._escrows.items():
            spends = [tx for block in chain for tx in block.txs if point in tx.inputs]
            assert len(spends) == 1, f"{point} is spent {len(spends)} times"
            assert tuple(out.value for out in spends[0].outputs) == paid
            assert spends[0].inputs == (point,)

    def _locks(self, name: str) -> list[Any]:
        file = self._net.data_dir(name) / "node.sqlite"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return database.execute("SELECT * FROM coin_lock").fetchall()

    def check_arbiter(self, name: str, node_id: str) -> None:
        """Compare an arbiter's earnings with the fees of the verdicts that were his."""
        earned = self._net.client(name).get("/v1/arbiter")["earned_sat"]
        assert earned == self.earned.get(node_id, 0)
