"""A fidelity bond on a real bitcoind: made, refused before its time, proven, renewed, redeemed."""

import hashlib
from typing import Any

import pytest
import trio
from chain_kit import eventually
from escrow_tx_kit import WORDS
from regtest_kit import Bitcoind, RpcError

from escrow.anchor import Anchor
from escrow.backend_electrum import ElectrumChain
from escrow.backend_keys import TradeKeys
from escrow.backend_redeem import sign_redeem
from escrow.backend_signatures import REAL
from escrow.backend_wallet import BdkWallet
from escrow.bond import is_proven
from escrow.redeem import build_redeem
from escrow.shell_bond import Bonds
from escrow.shell_desktop import Desktop
from escrow.shell_redeem import Redemption
from escrow.store_journal import Journal
from escrow.store_locks import CoinLocks
from p2pnode.app import fit
from p2pnode.app.events import Events
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database
from p2pnode.base.transaction import display, parse_transaction

NET = NETWORKS["regtest"]
SAT = 5_000_000
RATE = 3


class Arbiter:
    """An arbiter's wallet and bonds on the node's chain."""

    def __init__(self, chain: ElectrumChain) -> None:
        self.chain, database = chain, Database(None)
        locks = CoinLocks(database)
        self.wallet = BdkWallet(WORDS["A"], NET, database, chain, locks)
        world = Desktop(
            identity=Identity.grind(NET, hashlib.sha256(b"arbiter").digest()),
            network=NET,
            journal=Journal(database, NET),
            locks=locks,
            clock=SystemClock(),
            randomness=SystemRandomness(),
            chain=chain,
            purse=fit.WalletPurse(self.wallet),
            keys=TradeKeys(WORDS["A"], NET),
            desk=None,  # type: ignore[arg-type]  # an arbiter makes no offers
            announce=Events(database),
        )
        self.keys = world.keys
        self.bonds = Bonds(world, database)
        self.redemption = Redemption(world, self.bonds)

    async def stands(self, node: Bitcoind, number: int, state: str) -> None:
        async def there() -> None:
            assert display(self.chain.tip().hash) == node.rpc("getbestblockhash")
            found = self.bonds.standing(await self.bonds.one(number))
            assert found[0] == state, found

        await eventually(there)

    async def holds(self, sat: int) -> None:
        async def there() -> None:
            await self.wallet.sync()
            assert self.wallet.balance().confirmed == sat

        await eventually(there)


async def test_a_bond_from_its_payment_to_its_second_life(core: tuple[Bitcoind, str]) -> None:
    node, endpoint = core
    host, port = endpoint.split(":")
    chain = ElectrumChain(host, int(port), NET, SystemClock(), first_delay=0.05)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        a = Arbiter(chain)
        node.fund(a.wallet.address(), SAT + 100_000)
        node.mine(1)
        await a.holds(SAT + 100_000)

        held = await a.bonds.create(SAT, a.bonds.lock_until(1, None), RATE)
        node.mine(9)
        await a.stands(node, 0, "drawable")
        held = await a.bonds.one(0)
        assert held.coin is not None
        await check_shape(node, a, held.lock_time)
        with pytest.raises(RpcError, match="non-final"):
            node.rpc("sendrawtransaction", early(a, held.coin))

        node.leap(200, step=1_000)  # over two days
        await a.stands(node, 0, "expired")
        made = await a.redemption.renew(a.bonds.lock_until(1, None), None, RATE)
        assert made.number == 1
        node.mine(9)
        await a.stands(node, 0, "redeemed")
        await a.stands(node, 1, "drawable")
        await a.wallet.sync()
        rest = a.wallet.balance().confirmed
        node.leap(200, step=1_000)
        await a.stands(node, 1, "expired")
        done = await a.redemption.redeem(RATE)
        spend: Any = node.rpc("getmempoolentry", display(done.tx.txid))
        assert round(spend["fees"]["base"] * 10**8) == done.fee_sat
        assert spend["weight"] * RATE <= 4 * done.fee_sat <= (spend["weight"] + 8) * RATE
        node.mine(1)
        await a.stands(node, 1, "redeemed")
        await a.holds(rest + done.value)
        nursery.cancel_scope.cancel()


async def check_shape(node: Bitcoind, a: Arbiter, lock_time: int) -> None:
    """The node reads the script as it is meant, and its headers prove the bond."""
    found = await a.bonds.best()
    assert found is not None
    held, bond = found
    assert held.coin is not None
    script = node.rpc("decodescript", held.coin.witness_script.hex())
    words = f"{lock_time} OP_CHECKLOCKTIMEVERIFY OP_DROP {bond.key.hex()} OP_CHECKSIG"
    assert script["asm"] == words
    assert script["segwit"]["hex"] == held.script.hex()
    coin = node.rpc("gettxout", display(held.coin.outpoint.txid), held.coin.outpoint.vout)
    assert round(coin["value"] * 10**8) == bond.value == SAT
    block = node.rpc("getblock", node.rpc("getblockhash", bond.height))
    assert block["tx"][bond.position] == display(bond.outpoint[:32])
    assert display(bond.root) == block["merkleroot"]
    assert is_proven(bond, a.chain)
    anchor = Anchor(NET, a.chain.tip().height - 6, SAT, frozenset(), a.chain)
    median = node.rpc("getblockheader", node.rpc("getblockhash", anchor.height))["mediantime"]
    assert anchor.mtp == median


def early(a: Arbiter, coin: Any) -> str:
    """A spend that is right in all but its hour."""
    spend = build_redeem([coin], b"\0\x14" + bytes(20), RATE, coin.lock_time + 1)
    final = sign_redeem(spend, [a.keys.bond_key(coin.number)], REAL)
    assert parse_transaction("tx", final.serialize()).locktime == coin.lock_time
    return final.serialize().hex()
