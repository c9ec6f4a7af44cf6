"""An arbiter's bond on a real bitcoind: locked until its time, and home afterwards."""

from typing import Any

import pytest
import trio
from bond_node import RATE, SAT, Arbiter
from core_rig import CoreBox, display
from regtest_kit import Bitcoind, RpcError, value

from escrow.backend_electrum import ElectrumChain
from escrow.backend_redeem import sign_redeem
from escrow.redeem import build_redeem
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import LocalFault
from p2pnode.base.networks import NETWORKS

FUNDS = 8_000_000


class Line:
    """What an arbiter's rooms need of a rig."""

    def __init__(self, core: Bitcoind, endpoint: str) -> None:
        self.box = CoreBox(core, endpoint)
        host, _, port = endpoint.rpartition(":")
        network = NETWORKS["sandbox"]  # regtest's consensus
        self.chain = ElectrumChain(host, int(port), network, SystemClock(), first_delay=0.01)

    def mine(self, count: int = 1, step: int = 600) -> None:
        self.box.mine(count, step)


async def test_a_bond_is_locked_until_its_time_and_then_comes_home(
    core: tuple[Bitcoind, str], nursery: trio.Nursery
) -> None:
    node, line = core[0], Line(*core)
    await nursery.start(line.chain.run)
    a: Any = Arbiter(line)  # type: ignore[arg-type]
    await a.purse.funded(FUNDS)
    held = await a.bonded(SAT, days=1)
    txid, _, vout = str(held.coin.outpoint).partition(":")
    output = node.decoded(txid)["vout"][int(vout)]
    assert value(output) == SAT
    assert output["scriptPubKey"]["hex"] == held.coin.script.hex()
    script = node.rpc("decodescript", held.coin.witness_script.hex())
    drop = "OP_CHECKLOCKTIMEVERIFY OP_DROP"
    assert script["asm"] == f"{held.lock_time} {drop} {held.coin.key.hex()} OP_CHECKSIG"  # BIP 46

    home = a.purse.wallet.script_for_payout()
    spend = build_redeem([held.coin], home, RATE, held.lock_time + 1)  # the chain is not there yet
    keys = [a.world.keys.bond_key(held.number)]
    final = sign_redeem(spend, keys, a.world.opinions)
    with pytest.raises(LocalFault, match="no bond of yours has expired"):
        await a.redemption.redeem(RATE)
    while (mtp := node.median_time(node.rpc("getbestblockhash"))) <= held.lock_time:
        assert mtp <= held.lock_time
        with pytest.raises(RpcError, match="non-final"):
            node.rpc("sendrawtransaction", final.serialize().hex())
        line.mine(1, step=7200)
    await a.synced()
    await a.stands(held.number, "expired")
    redeemed = await a.redemption.redeem(RATE)
    entry = node.rpc("getmempoolentry", display(redeemed.tx.txid))
    assert redeemed.fee_sat == -(-RATE * (42 + 282 + 124) // 4)
    assert 111 <= entry["vsize"] <= 112
    line.mine()
    paid = SAT - redeemed.fee_sat
    tx = node.decoded(display(redeemed.tx.txid))
    assert [value(o) for o in tx["vout"]] == [paid]
    await a.purse.holds(FUNDS - SAT - node.fee(node.decoded(txid)) + paid)
