"""One client's view of the sandbox: the Electrum protocol 1.4 to 1.6, and the controls.

`Session.call` answers one request; what changed meanwhile is pushed by the server. The
`sandbox.*` methods are ours alone: no real server has them. Method names, answers and
error texts follow ElectrumX, so that one client fits both. Spec: electrum-protocol
documentation, "Protocol Methods".
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from p2pnode.app.sandbox.mempool import MAX_MINE, Sandbox
from p2pnode.app.sandbox.policy import Rejected
from p2pnode.app.sandbox.pool import Entry
from p2pnode.app.sandbox.rpc import FAILED, METHOD, Args, Request, RPCError
from p2pnode.app.sandbox.status import script_status, tip
from p2pnode.base.errors import NodeError
from p2pnode.base.transaction import MAX_TX_BYTES, Outpoint, display, merkle_branch, scripthash
from p2pnode.base.units import COIN, MAX_SAT

SOFTWARE: Final = "p2pnode sandbox"
PROTOCOLS: Final = ((1, 4), (1, 6))
MAX_SUBSCRIPTIONS: Final = 10_000
MAX_HISTORY: Final = 20_000
MAX_HEADERS: Final = 2_016
MAX_HEIGHT: Final = 1 << 31
MAX_STEP: Final = 366 * 86_400
MAX_RATE: Final = 1_000_000
MAX_CARRIED: Final = 100
MINE_SLICE: Final = 10  # blocks between which other clients get their turn
_VERSION: Final = re.compile(r"\d{1,3}(\.\d{1,3}){1,2}", re.ASCII)

Handler = Callable[["Session", Args], Any]


def _btc_per_kvb(rate: int) -> float:
    return rate / COIN  # the protocol writes fee rates as decimal BTC


class Session:
    """What one connection has negotiated and subscribed to."""

    def __init__(self, box: Sandbox, flush: Callable[[], None]) -> None:
        self.box = box
        self.protocol: tuple[int, ...] = PROTOCOLS[0]
        self.headers_wanted = False
        self.scripts: dict[str, str | None] = {}  # scripthash: last status told
        self._flush = flush

    async def call(self, request: Request) -> Any:
        """Return the result of one request. Raises RPCError."""
        if request.method not in METHODS:
            raise RPCError(METHOD, f'unknown method "{request.method}"')
        handler, names = METHODS[request.method]
        try:
            value = handler(self, Args(names, request.params))
            return await value if isinstance(value, Awaitable) else value
        except NodeError as error:
            raise RPCError(FAILED, str(error)) from None

    # -- server

    def _version(self, args: Args) -> list[str]:
        wanted = args.any("protocol_version") or "1.4"
        ends = wanted if type(wanted) is list and len(wanted) == 2 else [wanted, wanted]
        if not all(type(e) is str and _VERSION.fullmatch(e) for e in ends):
            raise RPCError(FAILED, "unsupported protocol version")
        low, high = (tuple(map(int, e.split("."))) for e in ends)
        chosen = min(high, PROTOCOLS[1])
        if chosen < PROTOCOLS[0] or low > PROTOCOLS[1] or low > high:
            raise RPCError(FAILED, "unsupported protocol version")
        self.protocol = chosen
        return [SOFTWARE, ".".join(map(str, chosen))]

    def _features(self, args: Args) -> dict[str, Any]:
        return {
            "genesis_hash": display(self.box.chain.index.headers[0].hash),
            "hosts": {},
            "protocol_min": "1.4",
            "protocol_max": "1.6",
            "pruning": None,
            "server_version": SOFTWARE,
            "hash_function": "sha256",
        }

    # -- headers

    def _subscribe_headers(self, args: Args) -> dict[str, Any]:
        self.headers_wanted = True
        return tip(self.box)

    def _header(self, args: Args) -> str:
        self._no_checkpoint(args)
        return self.box.chain.index.headers[self._height(args)].raw.hex()

    def _headers(self, args: Args) -> dict[str, Any]:
        self._no_checkpoint(args)
        start = args.integer("start_height", 0, MAX_HEIGHT)
        count = min(args.integer("count", 0, MAX_HEIGHT), MAX_HEADERS)
        found = [h.raw.hex() for h in self.box.chain.index.headers[start : start + count]]
        new = self.protocol >= (1, 6)
        body: dict[str, Any] = {"headers": found} if new else {"hex": "".join(found)}
        return {**body, "count": len(found), "max": MAX_HEADERS}

    def _no_checkpoint(self, args: Args) -> None:
        if args.integer("cp_height", 0, MAX_HEIGHT, 0):
            raise RPCError(FAILED, "cp_height is not served by the sandbox")

    def _height(self, args: Args) -> int:
        height = args.integer("height", 0, MAX_HEIGHT)
        if height > self.box.height:
            raise RPCError(FAILED, f"height {height:,d} out of range")
        return height

    # -- scripts

    def _name(self, args: Args) -> str:
        name = display(args.hash("scripthash"))
        if len(self.box.chain.index.history.get(name, ())) > MAX_HISTORY:
            raise RPCError(FAILED, "history too large")
        return name

    def _unconfirmed(self, name: str) -> list[Entry]:
        pool = self.box.pool
        return [pool.entries[t] for t in pool.by_script.get(name, ())]

    def _script_mempool(self, args: Args) -> list[dict[str, Any]]:
        return [
            {"tx_hash": display(e.tx.txid), "height": -1 if e.parents else 0, "fee": e.fee}
            for e in self._unconfirmed(self._name(args))
        ]

    def _script_history(self, args: Args) -> list[dict[str, Any]]:
        confirmed = self.box.chain.index.history.get(self._name(args), ())
        done = [{"tx_hash": display(t), "height": h} for h, t in confirmed]
        return done + self._script_mempool(args)

    def _script_unspent(self, args: Args) -> list[dict[str, Any]]:
        name, index, pool = self._name(args), self.box.chain.index, self.box.pool
        found = [
            _unspent(p, index.coins[p].height, index.coins[p].value)
            for p in index.unspent.get(name, {})
            if p not in pool.spender
        ]
        for entry in self._unconfirmed(name):
            for n, out in enumerate(entry.tx.outputs):
                point = Outpoint(entry.tx.txid, n)
                if scripthash(out.script) == name and point not in pool.spender:
                    found.append(_unspent(point, 0, out.value))
        return found

    def _script_balance(self, args: Args) -> dict[str, int]:
        index = self.box.chain.index
        confirmed = sum(index.coins[p].value for p in index.unspent.get(self._name(args), {}))
        total = sum(row["value"] for row in self._script_unspent(args))
        return {"confirmed": confirmed, "unconfirmed": total - confirmed}

    def _script_subscribe(self, args: Args) -> str | None:
        name = self._name(args)
        if name not in self.scripts and len(self.scripts) >= MAX_SUBSCRIPTIONS:
            raise RPCError(FAILED, f"a session watches at most {MAX_SUBSCRIPTIONS} scripts")
        self.scripts[name] = status = script_status(self.box, name)
        return status

    def _script_unsubscribe(self, args: Args) -> bool:
        return self.scripts.pop(display(args.hash("scripthash")), 0) != 0

    # -- transactions

    def _transaction(self, args: Args) -> str:
        if args.flag("verbose"):
            raise RPCError(FAILED, "verbose is not served by the sandbox")
        txid = args.hash("tx_hash")
        if entry := self.box.pool.entries.get(txid):
            return entry.tx.serialize().hex()
        if found := self.box.chain.index.txs.get(txid):
            return found[0].serialize().hex()
        words = "{'code': -5, 'message': 'No such mempool or blockchain transaction.'}"
        raise RPCError(2, f"daemon error: DaemonError({words})")

    def _merkle(self, args: Args) -> dict[str, Any]:
        txid, height = args.hash("tx_hash"), self._height(args)
        txids = self.box.chain.index.blocks[height]
        if txid not in txids:
            raise RPCError(FAILED, f"tx {display(txid)} not in block at height {height:,d}")
        return self._branch(height, txids.index(txid))

    def _branch(self, height: int, position: int) -> dict[str, Any]:
        branch = merkle_branch(self.box.chain.index.blocks[height], position)
        return {"block_height": height, "merkle": [display(h) for h in branch], "pos": position}

    def _id_from_pos(self, args: Args) -> Any:
        height, position = self._height(args), args.integer("tx_pos", 0, MAX_HEIGHT)
        txids = self.box.chain.index.blocks[height]
        if position >= len(txids):
            raise RPCError(FAILED, f"no tx at position {position:,d} in block {height:,d}")
        name = display(txids[position])
        if not args.flag("merkle"):
            return name
        return {"tx_hash": name, "merkle": self._branch(height, position)["merkle"]}

    def _broadcast(self, args: Args) -> str:
        raw = args.binary("raw_tx", MAX_TX_BYTES)
        try:
            return display(self.box.broadcast(raw).txid)
        except Rejected as error:
            text = f"the transaction was rejected by network rules.\n\n{error}\n[{raw.hex()}]"
            raise RPCError(FAILED, text) from None

    # -- fees

    def _estimate(self, args: Args) -> float:
        args.integer("number", 1, MAX_HEIGHT)
        return _btc_per_kvb(self.box.estimate)

    def _relay_fee(self, args: Args) -> float:
        if self.protocol >= (1, 6):
            raise RPCError(METHOD, 'unknown method "blockchain.relayfee"')
        return _btc_per_kvb(self.box.pool.min_rate)

    def _pool_info(self, args: Args) -> dict[str, float]:
        rate = _btc_per_kvb(self.box.pool.min_rate)
        return {"mempoolminfee": rate, "minrelaytxfee": rate, "incrementalrelayfee": rate}

    def _histogram(self, args: Args) -> list[list[float]]:
        rows = [[round(e.fee / e.tx.vsize, 2), e.tx.vsize] for e in self.box.pool.entries.values()]
        return sorted(rows, reverse=True)

    # -- controls

    async def _mine(self, args: Args) -> list[str]:
        left = args.integer("blocks", 1, 10 * MAX_MINE, 1)
        step = args.integer("step", 1, MAX_STEP, 600)
        self.box.chain.times(left, step)  # all of them or none
        made: list[bytes] = []
        while left:
            count = min(left, MINE_SLICE)
            made += self.box.mine(count, step)
            left -= count
            self._flush()
            await trio.lowlevel.checkpoint()
        return [display(h) for h in made]

    def _fund(self, args: Args) -> str:
        script, sat = args.binary("script", 42), args.integer("sat", 1, MAX_SAT)
        return display(self.box.fund(script, sat).txid)

    def _reorg(self, args: Args) -> list[str]:
        depth = args.integer("depth", 1, MAX_MINE)
        drop = [t[::-1] for t in args.binaries("drop", MAX_CARRIED, 32)]
        txs = args.binaries("txs", MAX_CARRIED, MAX_TX_BYTES)
        return [display(h) for h in self.box.reorg(depth, txs=txs, drop=drop)]

    def _congest(self, args: Args) -> int:
        self.box.congestion = args.integer("min_rate", 0, MAX_RATE)
        return self.box.congestion

    def _block(self, args: Args) -> str:
        return self.box.chain.raw_block(self._height(args)).hex()


def _unspent(point: Outpoint, height: int, value: int) -> dict[str, Any]:
    return {
        "tx_hash": display(point.txid),
        "tx_pos": point.vout,
        "height": height,
        "value": value,
    }


_SCRIPT: Final = ("scripthash",)
METHODS: Final[dict[str, tuple[Handler, tuple[str, ...]]]] = {
    "server.version": (Session._version, ("client_name", "protocol_version")),
    "server.features": (Session._features, ()),
    "server.ping": (lambda s, a: None, ("pong_len", "data")),
    "server.banner": (lambda s, a: "A private chain. Its coins are worth nothing.", ()),
    "server.donation_address": (lambda s, a: "", ()),
    "server.peers.subscribe": (lambda s, a: [], ()),
    "blockchain.headers.subscribe": (Session._subscribe_headers, ()),
    "blockchain.block.header": (Session._header, ("height", "cp_height")),
    "blockchain.block.headers": (Session._headers, ("start_height", "count", "cp_height")),
    "blockchain.scripthash.get_mempool": (Session._script_mempool, _SCRIPT),
    "blockchain.scripthash.get_history": (Session._script_history, _SCRIPT),
    "blockchain.scripthash.listunspent": (Session._script_unspent, _SCRIPT),
    "blockchain.scripthash.get_balance": (Session._script_balance, _SCRIPT),
    "blockchain.scripthash.subscribe": (Session._script_subscribe, _SCRIPT),
    "blockchain.scripthash.unsubscribe": (Session._script_unsubscribe, _SCRIPT),
    "blockchain.transaction.get": (Session._transaction, ("tx_hash", "verbose")),
    "blockchain.transaction.get_merkle": (Session._merkle, ("tx_hash", "height")),
    "blockchain.transaction.id_from_pos": (Session._id_from_pos, ("height", "tx_pos", "merkle")),
    "blockchain.transaction.broadcast": (Session._broadcast, ("raw_tx",)),
    "blockchain.estimatefee": (Session._estimate, ("number", "mode")),
    "blockchain.relayfee": (Session._relay_fee, ()),
    "mempool.get_info": (Session._pool_info, ()),
    "mempool.get_fee_histogram": (Session._histogram, ()),
    "sandbox.mine": (Session._mine, ("blocks", "step")),
    "sandbox.fund": (Session._fund, ("script", "sat")),
    "sandbox.reorg": (Session._reorg, ("depth", "drop", "txs")),
    "sandbox.congest": (Session._congest, ("min_rate",)),
    "sandbox.stats": (lambda s, a: s.box.stats(), ()),
    "sandbox.block": (Session._block, ("height",)),
}
