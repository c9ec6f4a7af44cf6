"""The sandbox's mempool beside a real node's: same blocks, same transactions, same answers.

The sandbox follows the node's chain block by block, so both also agree on every tip.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sandbox_kit import M, make

from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.miner import FAUCET_SCRIPT
from p2pnode.app.sandbox.policy import Rejected
from p2pnode.base import address
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut, display, parse_transaction
from p2pnode.base.units import MAX_SAT

pytestmark = pytest.mark.regtest

COINS = 12


class Pair:
    """A node and a sandbox that follows it, with confirmed coins that anyone can spend."""

    def __init__(self, node: Any) -> None:
        self.node = node
        info = node.rpc("getmempoolinfo")
        rate = round(info["minrelaytxfee"] * M)
        assert round(info["incrementalrelayfee"] * M) == rate
        self.box = Sandbox(None, warm_up=0, min_rate=rate)
        self.mine_to = node.rpc("getnewaddress", "", "bech32")
        where = address.encode("bcrt", FAUCET_SCRIPT)
        txids = [node.rpc("sendtoaddress", where, 1.0) for _ in range(COINS)]
        self.mine()
        self.coins = [self._coin(txid) for txid in txids]
        self.answers: dict[str, tuple[str, str]] = {}

    def _coin(self, name: str) -> Outpoint:
        tx = parse_transaction("tx", bytes.fromhex(self.node.rpc("gettransaction", name)["hex"]))
        (vout,) = [n for n, o in enumerate(tx.outputs) if o.script == FAUCET_SCRIPT]
        return Outpoint(tx.txid, vout)

    def mine(self) -> None:
        """Let the node mine and the sandbox follow, from wherever they are."""
        self.node.rpc("generatetoaddress", 1, self.mine_to)
        while self.box.height < self.node.rpc("getblockcount"):
            name = self.node.rpc("getblockhash", self.box.height + 1)
            self.box.chain.submit(bytes.fromhex(self.node.rpc("getblock", name, 0)))
            assert display(self.box.chain.tip) == name
        self.box.pool.rebuild(())

    def offer(self, title: str, tx: Transaction) -> Transaction:
        """Offer one transaction to both and note both answers."""
        raw = tx.serialize()
        try:
            theirs = self.node.rpc("sendrawtransaction", raw.hex(), 0)
            assert theirs == display(tx.txid)
            theirs = "accepted"
        except Exception as error:
            if type(error).__name__ != "RpcError":
                raise
            theirs = str(error)
        try:
            self.box.broadcast(raw)
            ours = "accepted"
        except Rejected as error:
            ours = str(error)
        self.answers[title] = (ours, theirs)
        return tx

    def pools_agree(self) -> bool:
        """Tell whether both mempools hold the same transactions."""
        ours = sorted(display(t) for t in self.box.pool.entries)
        return ours == sorted(self.node.rpc("getrawmempool"))


def reason(answer: str) -> str:
    """Cut an answer down to Core's reject reason: what follows are names and amounts."""
    return re.split(r"[,(.;:]| 0", answer)[0].strip()


@pytest.fixture
def pair(bitcoind: Any) -> Iterator[Pair]:
    pair = Pair(bitcoind)
    yield pair
    pair.node.rpc("generatetoaddress", 1, pair.mine_to)
    pair.box.close()


def replacements(pair: Pair) -> None:
    a, b, c = pair.coins[:3]
    parent = pair.offer("plain", make([a], [M - 1000]))
    pair.offer("again", parent)
    pair.offer("same fee, other sequence", make([a], [M - 1000], sequence=0xFFFFFFFE))
    pair.offer("a little more fee", make([a], [M - 1005]))
    pair.offer("child", make([Outpoint(parent.txid, 0)], [M - 3000]))
    pair.offer("dearer than the parent alone", make([a], [M - 2000]))
    pair.offer("dearer than the family", make([a], [M - 4000]))
    pair.offer("child of the evicted", make([Outpoint(parent.txid, 0)], [M - 9000]))
    second = pair.offer("second coin", make([b], [M - 1000]))
    both = make([b, Outpoint(second.txid, 0)], [2 * M - 10_000])
    pair.offer("conflicts with and spends the same", both)
    third = pair.offer("third coin", make([c], [M - 1000]))
    mixed = make([b, Outpoint(third.txid, 0)], [2 * M - 10_000])
    pair.offer("replaces and adds an unconfirmed", mixed)
    other = Transaction(2, (TxIn(c, witness=(b"\x01", b"\x75\x51")),), third.outputs, 0)
    pair.offer("same txid, other witness", other)


def locks(pair: Pair) -> None:
    d, e, f, g, h, i = pair.coins[3:9]
    height, now = pair.box.height, pair.box.chain.time
    pair.offer("height not reached", make([d], [M - 1000], locktime=height + 1))
    pair.offer("height reached", make([d], [M - 1000], locktime=height))
    pair.offer("time not reached", make([e], [M - 1000], locktime=now + 99_999))
    pair.offer(
        "final in spite of its lock", make([e], [M - 900], locktime=now, sequence=0xFFFFFFFF)
    )
    pair.offer("BIP 68: 2 blocks, 1 deep", make([f], [M - 1000], sequence=2))
    pair.offer("BIP 68: 1 block", make([f], [M - 1000], sequence=1))
    pair.offer("BIP 68: time", make([g], [M - 1000], sequence=0x400002))
    pair.offer("BIP 68: switched off by version 1", make([g], [M - 1000], sequence=5, version=1))
    pair.offer("BIP 68: switched off by bit 31", make([h], [M - 1000], sequence=0x80000005))
    loose = pair.offer("an unconfirmed coin", make([i], [M - 1000]))
    on_it = Outpoint(loose.txid, 0)
    pair.offer("BIP 68: 1 on it", make([on_it], [M - 3000], sequence=1))
    pair.offer("BIP 68: 0 on it", make([on_it], [M - 3000], sequence=0))


def malformed(pair: Pair) -> None:
    j, k = pair.coins[9:11]
    null = Outpoint(bytes(32), 0xFFFFFFFF)
    pair.offer("below the relay fee", make([j], [M - 5]))
    pair.offer("zero fee", make([j], [M]))
    pair.offer("inflation", make([j], [M + 1]))
    pair.offer("negative output", make([j], [M, -5]))
    pair.offer("over 21 million", make([j], [MAX_SAT + 1]))
    pair.offer("sum over 21 million", make([j], [MAX_SAT, MAX_SAT]))
    pair.offer("no outputs", make([j], []))
    pair.offer("the same input twice", make([j, j], [M]))
    pair.offer("unknown input", make([Outpoint(b"\7" * 32, 0)], [M]))
    pair.offer("vout too high", make([Outpoint(j.txid, 50)], [M]))
    pair.offer("null input", make([j, null], [M]))
    pair.offer("version 9", make([j], [M - 1000], version=9))
    pair.offer("version 0", make([j], [M - 1000], version=0))
    pair.offer("dust", make([k], [M - 3000, 200]))
    pair.offer("odd output script", make([k], [M - 1000], script=b"\x51\x52\x53\x54"))
    pair.offer("wrong witness script", make([k], [M - 1000], witness=(b"\x52",)))
    pair.offer("false on the stack", make([k], [M - 1000], witness=(b"", b"\x51")))
    pair.offer("no witness", make([k], [M - 1000], witness=()))
    tiny = Transaction(2, (TxIn(k, witness=(b"\x51",)),), (TxOut(0, b"\x6a"),), 0)
    pair.offer("too small", tiny)
    young = pair.node.rpc("getblock", pair.node.rpc("getblockhash", pair.box.height - 5))["tx"][0]
    pair.offer("immature coinbase", make([Outpoint(bytes.fromhex(young)[::-1], 0)], [1000]))
    pair.offer("version 3", make([j], [M - 1000], version=3))
    data = make([k], [0], script=b"\x6a\x04abcd")
    pair.offer("OP_RETURN", data)


def long_chain(pair: Pair) -> None:
    point = pair.coins[11]
    for n in range(1, 27):
        tx = pair.offer(f"chain of {n}", make([point], [M - 1000 * n]))
        point = Outpoint(tx.txid, 0)


STAGES: dict[str, tuple[Callable[[Pair], None], int]] = {
    "replacements": (replacements, 6),
    "locks": (locks, 5),
    "malformed": (malformed, 19),
    "long chain": (long_chain, 1),
}


def test_the_sandbox_answers_as_the_node_does(pair: Pair) -> None:
    assert pair.pools_agree(), "the node's mempool was not empty to begin with"
    for title, (stage, refusals) in STAGES.items():
        before = len(pair.answers)
        stage(pair)
        found = dict(list(pair.answers.items())[before:])
        different = {t: a for t, a in found.items() if reason(a[0]) != reason(a[1])}
        assert not different, title
        refused = [t for t, (ours, _) in found.items() if ours != "accepted"]
        assert len(refused) >= refusals, f"{title}: too much was accepted"
        assert pair.pools_agree(), title
    assert len(pair.answers) >= 41
    pair.mine()
    assert pair.pools_agree()
    again = pair.box.chain.index.txs[pair.box.chain.index.blocks[-1][1]][0]
    pair.offer("confirmed already", again)
    ours, theirs = pair.answers["confirmed already"]
    assert reason(ours) == reason(theirs) != "accepted"
    assert pair.pools_agree()
    stats = pair.box.stats()
    assert stats["entries_admitted"] == stats["entries_script_checked"]
    assert stats["blocks_submitted"] == stats["tips_compared"] == pair.box.height
