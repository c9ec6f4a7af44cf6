"""The same chain client and wallet on a real bitcoind behind a real ElectrumX."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from chain_kit import WORDS, eventually

from escrow.backend_electrum import ElectrumChain
from escrow.backend_wallet import BdkWallet
from escrow.store_locks import CoinLocks
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import LocalFault, NotFound
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database
from p2pnode.base.transaction import display, parse_transaction, root_from_branch

NET = NETWORKS["regtest"]
COIN = 100_000_000


@pytest.fixture
async def chain(electrumx: str) -> AsyncIterator[ElectrumChain]:
    host, port = electrumx.split(":")
    async with trio.open_nursery() as nursery:
        made = ElectrumChain(host, int(port), NET, SystemClock(), first_delay=0.05)
        await nursery.start(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def caught_up(chain: ElectrumChain, bitcoind: Any) -> None:
    async def check() -> None:
        tip = chain.tip()
        assert display(tip.hash) == bitcoind.rpc("getbestblockhash")

    await eventually(check)


async def test_headers_and_median_times_are_the_nodes(chain: ElectrumChain, bitcoind: Any) -> None:
    bitcoind.mine(3)
    await caught_up(chain, bitcoind)
    info = bitcoind.rpc("getblockchaininfo")
    assert (chain.tip().height, chain.tip().mtp) == (info["blocks"], info["mediantime"])
    for height in (0, 1, info["blocks"] - 1):
        block = bitcoind.rpc("getblockheader", bitcoind.rpc("getblockhash", height))
        hash_, root = chain.block_hash(height), chain.merkle_root(height)
        assert hash_ is not None
        assert root is not None
        assert (display(hash_), display(root)) == (block["hash"], block["merkleroot"])
        assert chain.mtp(height) == block["mediantime"]
    assert "ElectrumX" in chain.software


async def test_a_payment_from_mempool_to_depth_and_back_by_a_reorg(
    chain: ElectrumChain, bitcoind: Any
) -> None:
    address = bitcoind.rpc("getnewaddress", "", "bech32")
    script = bytes.fromhex(bitcoind.rpc("getaddressinfo", address)["scriptPubKey"])
    await chain.watch(script)
    txid = bitcoind.fund(address, 123_456)

    async def at(height: int) -> None:
        seen = await chain.sightings(script)
        assert [(display(s.txid), s.height) for s in seen] == [(txid, height)]

    await eventually(lambda: at(0))
    (block,) = bitcoind.mine()
    height = bitcoind.rpc("getblockcount")
    await eventually(lambda: at(height))
    branch, position = await chain.proof(bytes.fromhex(txid)[::-1], height)
    root = root_from_branch(bytes.fromhex(txid)[::-1], branch, position)
    assert root == chain.merkle_root(height)
    bitcoind.rpc("invalidateblock", block)
    bitcoind.rpc("generateblock", bitcoind.rpc("getnewaddress", "", "bech32"), [])
    bitcoind.rpc("generateblock", bitcoind.rpc("getnewaddress", "", "bech32"), [])
    await caught_up(chain, bitcoind)
    await eventually(lambda: at(0))
    bitcoind.mine()
    await eventually(lambda: at(height + 2))


async def test_the_wallet_is_funded_pays_and_is_refused_a_double_spend(
    chain: ElectrumChain, bitcoind: Any
) -> None:
    database = Database(None)
    wallet = BdkWallet(WORDS, NET, database, chain, CoinLocks(database))

    async def has_coin() -> None:
        await wallet.sync()
        assert any(c.value == COIN for c in wallet.coins())

    bitcoind.fund(wallet.address(), COIN)
    bitcoind.mine()
    await eventually(has_coin)
    before = wallet.balance()
    target = bitcoind.rpc("getnewaddress", "", "bech32m")
    txid = await wallet.send(target, 30_000_000, 3)
    entry = bitcoind.rpc("getmempoolentry", display(txid))
    assert round(entry["fees"]["base"] * COIN) >= 3 * entry["weight"] / 4
    raw = await chain.transaction(txid)
    assert await chain.broadcast(raw) == txid  # known already
    assert raw.hex() == bitcoind.rpc("getrawtransaction", display(txid))
    bitcoind.mine()
    fee = round(entry["fees"]["base"] * COIN)

    async def paid() -> None:
        await wallet.sync()
        assert wallet.balance().confirmed == before.confirmed - 30_000_000 - fee

    await eventually(paid)
    assert await chain.broadcast(raw) == txid  # confirmed
    spent = parse_transaction("tx", raw)
    stranger = raw.replace(spent.outputs[0].script, spent.outputs[0].script[:-1] + b"\7", 1)
    with pytest.raises(LocalFault, match="bad-txns-inputs-missingorspent"):
        await chain.broadcast(stranger)
    with pytest.raises(NotFound):
        await chain.transaction(b"\7" * 32)


async def test_a_fee_estimate_is_none_or_whole(chain: ElectrumChain) -> None:
    rate = await chain.fee_rate(3)
    assert rate is None or (type(rate) is int and rate > 0)
