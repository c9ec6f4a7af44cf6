"""A real mempool takes a child that hurries a payout, and another that hurries it more."""

from decimal import Decimal

from escrow_tx_kit import KEYS, WORDS, BdkWallet, contract
from regtest_kit import COIN, Bitcoind

from escrow import bump
from escrow.backend_bench import TradeBench
from escrow.payout import build_payout, release
from escrow.script import escrow_address, escrow_script
from p2pnode.base.transaction import Outpoint, TxOut, display, parse_transaction


def test_payout_and_child_together_pay_the_rate(bitcoind: Bitcoind) -> None:
    wallet = BdkWallet(WORDS["B"])
    made = contract(script_b=wallet.script(3), rate=1)
    funding = bitcoind.rpc("gettransaction", bitcoind.fund(escrow_address(made), made.escrow_sat))[
        "hex"
    ]
    bitcoind.mine()
    tx = parse_transaction("funding", bytes.fromhex(funding))
    at = Outpoint(tx.txid, tx.outputs.index(TxOut(made.escrow_sat, escrow_script(made))))
    seller, buyer = TradeBench(KEYS["S"]), TradeBench(KEYS["B"])
    pair = seller.first_sign(made, at, release(made))
    low, _ = buyer.complete(made, at, release(made), KEYS["S"].public, pair)
    parent = parse_transaction("payout", low)
    assert bitcoind.rpc("sendrawtransaction", low.hex()) == display(parent.txid)
    paid = build_payout(made, at, release(made)).fee_sat
    before = ""
    for rate in (7, 8):
        child = bump.child(parent, 0, paid, wallet.script(4), rate)
        raw = buyer.sign_child(child, bump.coin(parent, 0), wallet.sign)
        txid = bitcoind.rpc("sendrawtransaction", raw.hex())
        entry = bitcoind.rpc("getmempoolentry", txid)
        fees, size = Decimal(entry["fees"]["ancestor"]) * COIN, entry["ancestorsize"]
        assert entry["ancestorcount"] == 2
        assert rate <= fees / size < rate + Decimal("0.1")
        assert before not in bitcoind.rpc("getrawmempool")  # replaced
        before = txid
    (block,) = bitcoind.mine()
    assert {before, display(parent.txid)} <= set(bitcoind.rpc("getblock", block)["tx"])
