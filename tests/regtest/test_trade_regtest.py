"""Whole trades between real node processes on a real bitcoind behind a real ElectrumX.

The money is recounted by bitcoind: from the transactions as it decodes them, and from the
nodes' seed words, whose coins it finds by itself. The chain's clock is the test's: bitcoind
starts 60 days before now, and only mining moves it. The tests build on each other.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from regtest_kit import COIN, Bitcoind, RpcError, bitcoind_program, electrum_server, value

from p2pnode.app.demo.processes import CommandFailed, Processes
from p2pnode.base.errors import NotFound

DAY = 86_400
ARBITERS = ("arbiter1", "arbiter2", "arbiter3")
TRADERS = ("maker", "taker")
OPENING = COIN // 2
RATE = 2  # sat/vB on regtest, where nobody estimates
REFUSED = 70
# Sizes of docs/wire.md and of the protocol, in weight units.
INPUT, ESCROW_INPUT, P2WPKH_OUTPUT = 272, 530, 124
FUNDING_COMMON, PAYOUT_COMMON = 214, 42
PAY_WITHIN = (2 + 4) * DAY  # ACK, then the method's period
REPLY = 4 * DAY
N = 144 * (4 + 30)  # blocks after which the backup branch opens

pytestmark = pytest.mark.regtest


def fee_for(weight: int) -> int:
    return -(-RATE * weight // 4)


FUNDING_SHARE = fee_for(FUNDING_COMMON // 2 + INPUT + P2WPKH_OUTPUT)


class Market:
    """A seed, three arbiters, a maker and a taker on one chain."""

    def __init__(self, node: Bitcoind, net: Processes) -> None:
        self.node, self.net = node, net
        names = ("seed", *ARBITERS, *TRADERS)
        answers = dict(zip(names, net.init(*names), strict=True))
        self.words = {name: answer["words"] for name, answer in answers.items()}
        self.name_of = {answer["node_id"]: name for name, answer in answers.items()}
        net.run("seed", "--seed")
        bootstrap = net.ready("seed")["multiaddrs"][0]
        for name in names[1:]:
            net.run(name, "--bootstrap", bootstrap)
        for name in names[1:]:
            net.ready(name)
        for name in TRADERS:
            node.fund(net.client(name).post("/v1/wallet/address")["address"], OPENING)
        node.mine()
        for name in TRADERS:
            self.until(name, "is funded", lambda n=name: self.balance(n), lambda b: b == OPENING)
        for name in ARBITERS:
            net.cli(name, "arbiter", "register")
        for name in TRADERS:
            about = ("--name", "bank", "--method", "CUSTOM", "--details", f"IBAN DE00 {name}")
            net.cli(name, "account", "add", *about)

    def until(self, name: str, what: str, ask: Any, accept: Any) -> Any:
        return self.net.until(name, what, ask, accept, limit_s=60)

    def balance(self, name: str) -> int:
        answer = self.net.client(name).get("/v1/wallet/balance")
        return answer["confirmed_sat"] if not answer["pending_sat"] else -1

    def trade(self, name: str, trade: str) -> dict[str, Any]:
        try:
            return self.net.client(name).get(f"/v1/trades/{trade}")
        except NotFound:  # the TAKE has not reached the maker yet
            return {}

    def reach(self, trade: str, state: str, *names: str, **wanted: Any) -> dict[str, Any]:
        """Wait until the trade has come to `state` for these nodes (both traders by default)."""

        def there(answer: dict[str, Any]) -> bool:
            return all(answer.get(k) == v for k, v in {"state": state, **wanted}.items())

        for name in names or TRADERS:
            found = self.until(
                name, f"{state} {wanted}", lambda n=name: self.trade(n, trade), there
            )
        return found

    def refused(self, name: str, *words: str) -> str:
        """Run a command that must be refused; return the sentence."""
        with pytest.raises(CommandFailed) as caught:
            self.net.cli(name, *words)
        assert caught.value.status == REFUSED, caught.value
        return caught.value.error["message"]

    def begin(self, amount: str) -> str:
        """Publish an offer to sell, find and take it; return the trade, its funding broadcast."""
        side = ("--sell", "--cur", "EUR", "--min", "0.005", "--max", "0.02")
        offer = self.net.cli(
            "maker", "offer", "create", *side, "--price", "61240.00", "--account", "bank"
        )
        found = self.net.rows("taker", "offer", "list", "--cur", "EUR")
        assert [row["offer_id"] for row in found] == [offer["offer_id"]]
        words = ("--amount", amount, "--account", "bank", "--yes")
        trade = self.net.cli("taker", "trade", "take", offer["offer_id"], *words)["trade_id"]
        self.reach(trade, "Broadcast")
        return trade

    def may_pay(self, trade: str) -> dict[str, Any]:
        """Wait until the taker, who buys, is told to pay; return the trade."""

        def told(answer: dict[str, Any]) -> bool:
            return answer["state"] == "Funded" and answer["next"].startswith("pay ")

        return self.until("taker", "may pay", lambda: self.trade("taker", trade), told)

    def paid_out(self, trade: str, *names: str) -> str:
        """Wait until these nodes and bitcoind have the payout; return its txid."""
        for name in names or TRADERS:
            found = self.until(
                name, "payout", lambda n=name: self.trade(n, trade), lambda t: t["payout_txid"]
            )
        self.in_mempool(found["payout_txid"])
        return found["payout_txid"]

    def in_mempool(self, txid: str) -> dict[str, Any]:
        """Wait until bitcoind holds a transaction; return its mempool's entry."""

        def entries() -> dict[str, Any]:
            return self.node.rpc("getrawmempool", True)

        return self.until("taker", f"broadcast {txid}", entries, lambda e: txid in e)[txid]

    def settled(self, expected: dict[str, int]) -> None:
        """Compare each wallet with bitcoind's own search of its keys, and with `expected`."""
        for name, wanted in expected.items():
            assert self.node.holdings(self.words[name]) == wanted, name
            self.until(name, "its balance", lambda n=name: self.balance(n), wanted.__eq__)
            answer = self.net.client(name).get("/v1/wallet/balance")
            assert (answer["available_sat"], answer["locked_sat"]) == (wanted, 0)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    program = bitcoind_program()
    folder = tmp_path_factory.mktemp("bitcoind-clock")
    with (
        Bitcoind(program, folder, clock=int(time.time()) - 60 * DAY) as node,
        electrum_server(node, tmp_path_factory.mktemp("electrumx-clock")) as endpoint,
        Processes(tmp_path_factory.mktemp("trade"), network="regtest", electrum=endpoint) as net,
    ):
        yield Market(node, net)


def check_funding(market: Market, trade: dict[str, Any]) -> None:
    """Recount the funding from what bitcoind reads in it."""
    node = market.node
    tx = node.decoded(trade["escrow_txid"])
    assert len(tx["vin"]) == 2
    assert len(tx["vout"]) == 3
    escrow = tx["vout"][trade["escrow_vout"]]
    assert escrow["scriptPubKey"]["type"] == "witness_v0_scripthash"
    assert escrow["scriptPubKey"]["address"] == trade["escrow_address"]
    deposits = trade["deposit_buyer_sat"] + trade["deposit_seller_sat"]
    assert value(escrow) == trade["escrow_sat"] == trade["amount_sat"] + deposits
    assert node.fee(tx) == 2 * FUNDING_SHARE
    assert trade["funding_fee_buyer_sat"] == trade["funding_fee_seller_sat"] == FUNDING_SHARE
    assert tx["weight"] <= FUNDING_COMMON + 2 * INPUT + 2 * P2WPKH_OUTPUT
    assert RATE <= 4 * node.fee(tx) / tx["weight"] < RATE * 1.02


def check_payout(market: Market, trade: dict[str, Any], shares: tuple[int, ...]) -> dict[str, Any]:
    """Recount the payout; `shares` is what its outputs must hold. Returns it decoded."""
    node = market.node
    tx = node.decoded(trade["payout_txid"])
    (point,) = tx["vin"]
    assert (point["txid"], point["vout"]) == (trade["escrow_txid"], trade["escrow_vout"])
    assert tuple(map(value, tx["vout"])) == shares
    assert {o["scriptPubKey"]["type"] for o in tx["vout"]} == {"witness_v0_keyhash"}
    assert tx["weight"] <= PAYOUT_COMMON + ESCROW_INPUT + P2WPKH_OUTPUT * len(shares)
    assert tx["vsize"] <= {2: 205, 3: 236}[len(shares)]
    assert RATE <= 4 * node.fee(tx) / tx["weight"] < RATE * 1.02
    script = node.rpc("decodescript", point["txinwitness"][-1])
    words = script["asm"].split()
    main, between, backup, end = words[1:4], words[4:9], words[9:12], words[12:]
    assert (words[0], between) == ("2", ["3", "OP_CHECKMULTISIG", "OP_IFDUP", "OP_NOTIF", "2"])
    assert end == ["3", "OP_CHECKMULTISIGVERIFY", str(N), "OP_CHECKSEQUENCEVERIFY", "OP_ENDIF"]
    assert (main, backup) == (sorted(main), sorted(backup))
    assert len({*main, *backup}) == 6
    assert script["segwit"]["address"] == trade["escrow_address"]
    return tx


def check_draw(market: Market, trade: dict[str, Any], file: Path) -> None:
    """Verify the draw by its transcript and ElectrumX alone; with another arbiter named it fails."""
    net = market.net
    net.cli("taker", "draw", "show", trade["trade_id"], "--out", str(file))
    verify = ("draw", "verify", str(file), "--electrum", net.electrum)
    answer = net.cli("nobody", *verify)
    assert answer["verified"]
    assert answer["arbiter"] == trade["arbiter"]
    assert answer["eligible"] == len(ARBITERS)
    transcript = json.loads(file.read_text())
    transcript["arbiter"] = answer["runner_up"]
    file.write_text(json.dumps(transcript))
    with pytest.raises(CommandFailed) as caught:
        net.cli("nobody", *verify)
    assert caught.value.status == 65
    assert caught.value.error["field"] == "arbiter"


def test_a_trade_outlives_reorgs_and_a_killed_bitcoind(market: Market, tmp_path: Path) -> None:
    node, net = market.node, market.net
    before = {name: market.balance(name) for name in TRADERS}
    trade = market.begin("0.005")
    funding = market.trade("taker", trade)["escrow_txid"]
    assert "feerate" not in node.rpc("estimatesmartfee", 3)
    assert market.trade("taker", trade)["rate"] == RATE
    market.in_mempool(funding)
    assert "not deep enough" in market.refused("taker", "trade", "pay-sent", trade, "--yes")
    node.mine()
    market.may_pay(trade)
    check_funding(market, market.reach(trade, "Funded", confirmations=1))

    node.reorg(1)
    assert "confirmations" not in node.decoded(funding)
    market.reach(trade, "Broadcast", confirmations=0)
    assert (
        market.refused("taker", "trade", "pay-sent", trade, "--yes")
        == "do not pay: the escrow is not deep enough in the chain"
    )
    node.mine()
    market.may_pay(trade)
    net.cli("taker", "trade", "pay-sent", trade, "--yes", "--note", "ref 1")
    market.reach(trade, "Paid", "maker")
    net.cli("maker", "trade", "received", trade, "--yes")
    market.reach(trade, "Releasing")
    payout = market.paid_out(trade)
    first = market.in_mempool(payout)

    node.kill()
    for name in TRADERS:
        assert net.client(name).get("/v1/status")
    node.clock += 3600
    node.start()
    node.rpc("loadwallet", "miner", wallet=None)
    again = market.in_mempool(payout)
    assert again["time"] >= node.clock > first["time"], "the mempool was not lost"

    node.mine()
    market.reach(trade, "Releasing", payout_confirmations=1)
    node.reorg(1)
    assert "confirmations" not in node.decoded(payout)
    market.reach(trade, "Releasing", payout_confirmations=0, payout_txid=payout)
    node.mine(5)
    market.reach(trade, "Releasing", payout_confirmations=5)
    node.mine()
    found = market.reach(trade, "Closed", outcome="released")

    amount, dep_b, dep_s = (
        found[f"{n}_sat"] for n in ("amount", "deposit_buyer", "deposit_seller")
    )
    fee = fee_for(PAYOUT_COMMON + ESCROW_INPUT + 2 * P2WPKH_OUTPUT)
    check_payout(market, found, (amount + dep_b - fee, dep_s))
    assert node.decoded(payout)["confirmations"] == 6
    market.settled(
        {
            "taker": before["taker"] + amount - fee - FUNDING_SHARE,
            "maker": before["maker"] - amount - FUNDING_SHARE,
        }
    )
    check_draw(market, found, tmp_path / "draw.json")


def test_a_dispute_is_ruled_when_the_chains_clock_allows_it(market: Market, tmp_path: Path) -> None:
    node, net = market.node, market.net
    before = {name: market.balance(name) for name in TRADERS}
    trade = market.begin("0.02")
    begun = market.trade("taker", trade)
    arbiter = market.name_of[begun["arbiter"]]
    market.in_mempool(begun["escrow_txid"])
    node.mine(2)
    market.reach(trade, "Broadcast", confirmations=2)
    assert "not deep enough" in market.refused("taker", "trade", "pay-sent", trade, "--yes")
    node.mine()
    market.may_pay(trade)
    check_funding(market, market.reach(trade, "Funded", confirmations=3))
    net.cli("taker", "trade", "pay-sent", trade, "--yes")
    market.reach(trade, "Paid")
    node.reorg(3)
    market.reach(trade, "Paid", confirmations=0)
    assert (
        market.refused("maker", "trade", "received", trade, "--yes")
        == "the escrow is not deep enough in the chain now: wait for more blocks"
    )
    node.mine(3)
    market.reach(trade, "Paid", confirmations=3)
    net.cli("taker", "dispute", "open", trade, "--yes", "--statement", "I paid on Monday.")
    market.reach(trade, "Disputed", notice=True)
    net.cli("maker", "dispute", "answer", trade, "--statement", "Nothing came.")

    def case() -> dict[str, Any]:
        return net.client(arbiter).get(f"/v1/cases/{trade}")

    heard = market.until(arbiter, "both statements", case, lambda c: c["state"] == "Hearing")
    assert (heard["statement_buyer"], heard["statement_seller"]) == (
        "I paid on Monday.",
        "Nothing came.",
    )
    from_time = node.median_time(node.decoded(begun["escrow_txid"])["blockhash"])
    from_time += PAY_WITHIN + REPLY
    assert heard["below_release_from_mtp"] == from_time
    decide = ("arbiter", "decide", trade, "--buyer", "0.01", "--yes", "--reason", "Not shown.")
    date = datetime.fromtimestamp(from_time, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assert f"before {date}" in market.refused(arbiter, *decide)
    while node.median_time(node.rpc("getbestblockhash")) < from_time:
        assert node.clock < time.time()
        node.mine(step=DAY)
    tip = node.rpc("getbestblockhash")
    assert node.median_time(tip) < from_time + DAY
    market.until(arbiter, "time", case, lambda c: c["mtp"] == node.median_time(tip))
    net.cli(arbiter, *decide)

    market.reach(trade, "Ruled")
    net.cli("maker", "dispute", "accept", trade, "--yes")  # what he says of the money is his own
    market.paid_out(trade, "maker")
    node.mine(6)
    found = market.reach(trade, "Closed", outcome="ruled")
    market.until(arbiter, "closed", case, lambda c: c["state"] == "ClosedCase")

    fee_a = 1000 + found["amount_sat"] // 1000
    assert found["arbiter_fee_sat"] == fee_a
    fee = fee_for(PAYOUT_COMMON + ESCROW_INPUT + 3 * P2WPKH_OUTPUT)
    buyer = COIN // 100
    seller = found["escrow_sat"] - buyer - fee_a - fee
    check_payout(market, found, (buyer, seller, fee_a))
    locked = found["amount_sat"] + found["deposit_seller_sat"]
    market.settled(
        {
            "taker": before["taker"] - found["deposit_buyer_sat"] + buyer - FUNDING_SHARE,
            "maker": before["maker"] - locked + seller - FUNDING_SHARE,
        }
    )
    check_draw(market, found, tmp_path / "draw.json")

    assert net.cli(arbiter, "arbiter", "status")["earned_sat"] == fee_a
    sweep = net.cli(arbiter, "arbiter", "withdraw", "--yes")
    entry = market.in_mempool(sweep["txid"])
    assert RATE <= sweep["fee_sat"] / (entry["weight"] / 4) < RATE * 1.03
    node.mine()
    market.settled({arbiter: fee_a - sweep["fee_sat"]})


def test_a_double_spent_funding_is_void_and_strands_no_coin(market: Market) -> None:
    node = market.node
    before = {name: market.balance(name) for name in TRADERS}
    trade = market.begin("0.005")
    funding = market.trade("taker", trade)["escrow_txid"]
    market.in_mempool(funding)
    # His words in a second wallet: the taker spends the coin that he declared.
    taken = node.double_spend(market.words["taker"], funding, 10_000)
    node.mine(5)
    note = "bad-txns-inputs-missingorspent"
    for name in TRADERS:
        market.until(
            name, note, lambda n=name: market.trade(n, trade)["note"], lambda text: note in text
        )
    market.reach(trade, "Broadcast", confirmations=0)
    node.mine()
    market.reach(trade, "Void")
    market.settled({"maker": before["maker"], "taker": before["taker"] - taken})
    with pytest.raises(RpcError):
        node.decoded(funding)
