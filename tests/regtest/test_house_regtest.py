"""The real node and the real Electrum server agree on a payment."""

import json
import socket
import time
from typing import Any

from p2pnode.base.transaction import scripthash


class Line:
    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.split(":")
        self._socket = socket.create_connection((host, int(port)), 30)
        self._file = self._socket.makefile("rw")

    def ask(self, method: str, *params: Any) -> Any:
        json.dump({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, self._file)
        self._file.write("\n")
        self._file.flush()
        answer = json.loads(self._file.readline())
        assert "error" not in answer, answer
        return answer["result"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def test_electrumx_sees_what_the_node_pays(bitcoind: Any, electrumx: str) -> None:
    address = bitcoind.rpc("getnewaddress", "", "bech32")
    script = bytes.fromhex(bitcoind.rpc("getaddressinfo", address)["scriptPubKey"])
    txid = bitcoind.fund(address, 123_456)
    bitcoind.mine()
    line = Line(electrumx)
    try:
        line.ask("server.version", "p2pnode test", "1.4")
        deadline = time.monotonic() + 20
        history: list[Any] = []
        while not any(entry["height"] > 0 for entry in history):
            assert time.monotonic() < deadline, history
            history = line.ask("blockchain.scripthash.get_history", scripthash(script))
        assert [entry["tx_hash"] for entry in history] == [txid]
        balance = line.ask("blockchain.scripthash.get_balance", scripthash(script))
        assert balance["confirmed"] == 123_456
    finally:
        line.close()


def test_the_node_is_a_regtest_of_its_own(bitcoind: Any) -> None:
    info = bitcoind.rpc("getblockchaininfo", wallet=None)
    assert info["chain"] == "regtest"
    assert info["blocks"] >= 110
    assert bitcoind.rpc("getindexinfo", wallet=None)["txindex"]["synced"]
