"""Any order of mining, paying, replacing and reorganising keeps the sandbox's books true."""

import itertools
import json
from collections import Counter
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sandbox_kit import SOMEONE, M, make

from p2pnode.app.sandbox import rpc
from p2pnode.app.sandbox.electrum import METHODS, Session
from p2pnode.app.sandbox.index import Index
from p2pnode.app.sandbox.judge import failing_input
from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.miner import FAUCET_SCRIPT, subsidy
from p2pnode.app.sandbox.policy import Rejected
from p2pnode.base.errors import LocalFault
from p2pnode.base.transaction import Outpoint, scripthash

FAUCET = scripthash(FAUCET_SCRIPT)


class Books(RuleBasedStateMachine):
    """Random use of one sandbox; its indexes must equal ones built from its blocks anew."""

    happened: ClassVar[Counter[str]] = Counter()

    @initialize()
    def open(self) -> None:
        self.box = Sandbox(None)
        for _ in range(4):
            self.box.fund(FAUCET_SCRIPT, M)
        self.box.mine(1)
        self.time, self.tip = self.box.chain.time, b""

    def teardown(self) -> None:
        if hasattr(self, "box"):
            self.box.close()

    def _coins(self) -> list[Outpoint]:
        index, pool = self.box.chain.index, self.box.pool
        confirmed = [p for p in index.unspent[FAUCET] if not index.coins[p].coinbase]
        loose = [
            Outpoint(t, n)
            for t, e in pool.entries.items()
            for n, o in enumerate(e.tx.outputs)
            if o.script == FAUCET_SCRIPT
        ]
        return confirmed + loose

    @rule(count=st.integers(1, 3), step=st.integers(1, 86_400))
    def mine(self, count: int, step: int) -> None:
        try:
            self.box.mine(count, step)
        except LocalFault:
            return
        self.happened["mine"] += 1

    @rule(sat=st.integers(1_000, 5 * M))
    def fund(self, sat: int) -> None:
        try:
            self.box.fund(SOMEONE, sat)
        except Rejected:
            return
        self.happened["fund"] += 1

    @rule(pick=st.integers(0), fee=st.integers(0, 200_000), ours=st.booleans())
    def spend(self, pick: int, fee: int, ours: bool) -> None:
        """Spend any coin, spent in the pool or not: a plain payment, a child or a replacement."""
        points = self._coins()
        if not points:
            return
        point = points[pick % len(points)]
        coin = self.box.pool.coin(point)
        assert coin is not None
        known = set(self.box.pool.entries)
        script = FAUCET_SCRIPT if ours else SOMEONE
        try:
            self.box.broadcast(make([point], [coin.value - fee], script=script).serialize())
        except Rejected:
            assert set(self.box.pool.entries) == known
            self.happened["refused"] += 1
            return
        self.happened["replace" if known - set(self.box.pool.entries) else "spend"] += 1

    @rule(depth=st.integers(1, 4), drop=st.booleans(), pick=st.integers(0))
    def reorg(self, depth: int, drop: bool, pick: int) -> None:
        index = self.box.chain.index
        held = [t for txids in index.blocks[-depth:] for t in txids[1:]]
        dropped = [held[pick % len(held)]] if drop and held else []
        try:
            self.box.reorg(depth, drop=dropped)
        except LocalFault:
            return
        assert not set(dropped) & (set(self.box.pool.entries) | set(index.txs))
        self.happened["drop" if dropped else "reorg"] += 1

    @invariant()
    def indexes_equal_those_of_the_blocks(self) -> None:
        box = self.box
        if box.chain.tip == self.tip:
            return  # only blocks change them
        self.tip = box.chain.tip
        fresh = Index()
        for height in range(box.height + 1):
            fresh.connect(box.chain.raw_block(height))
        index = box.chain.index
        assert fresh.headers == index.headers
        assert fresh.coins == index.coins
        assert fresh.txs.keys() == index.txs.keys()
        assert fresh.history == {k: v for k, v in index.history.items() if v}
        left = {k: set(v) for k, v in index.unspent.items() if v}
        assert {k: set(v) for k, v in fresh.unspent.items() if v} == left
        total = sum(c.value for c in index.coins.values())
        assert total == sum(subsidy(h) for h in range(1, box.height + 1))

    @invariant()
    def time_rises(self) -> None:
        times = [h.time for h in self.box.chain.index.headers]
        assert all(a < b for a, b in itertools.pairwise(times))
        assert times[-1] >= self.time
        self.time = times[-1]

    @invariant()
    def the_pool_is_sound(self) -> None:
        pool, seen = self.box.pool, set()
        for txid, entry in pool.entries.items():
            coins = [pool.coin(i.outpoint) for i in entry.tx.inputs]
            assert None not in coins
            spent = [c.out for c in coins if c]
            assert failing_input(entry.tx.serialize(), spent) is None
            assert entry.fee == sum(o.value for o in spent) - sum(o.value for o in entry.tx.outputs)
            assert entry.parents <= seen  # parents come first
            assert all(txid in pool.entries[p].children for p in entry.parents)
            seen.add(txid)
        spends = [(i.outpoint, t) for t, e in pool.entries.items() for i in e.tx.inputs]
        assert dict(spends) == pool.spender
        assert len(spends) == len(pool.spender)  # no double spend
        assert {t for txs in pool.by_script.values() for t in txs} == set(pool.entries)

    @invariant()
    def nothing_was_left_out(self) -> None:
        stats = self.box.stats()
        assert stats["entries_admitted"] == stats["entries_script_checked"]
        assert stats["blocks_submitted"] == stats["tips_compared"]
        assert list(self.box.pool.admitted) == [c.wtxid for c in self.box.pool.checks]


def test_the_books_stay_true_in_any_order() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Books.happened.clear()
    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    wanted = {"mine", "fund", "spend", "replace", "refused", "reorg", "drop"}
    assert wanted <= Books.happened.keys(), f"never happened: {wanted - Books.happened.keys()}"


# ------------------------------------------------------------------ requests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=8,
)
HEX = st.binary(max_size=40).map(bytes.hex)
PARAM = JSON | HEX | st.binary(min_size=32, max_size=32).map(bytes.hex) | st.integers(-2, 130)


@pytest.fixture(scope="module")
def box() -> Any:
    box = Sandbox(None)
    yield box
    box.close()


@given(line=st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))
def test_any_line_is_read_or_raises_the_declared_error(line: bytes) -> None:
    try:
        _, items = rpc.parse_line(line)
        for item in items:
            rpc.encode(rpc.failure(rpc.request_id(item), rpc.RPCError(1, "")))
            rpc.parse_request(item)
    except rpc.RPCError:
        return


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(sorted(set(METHODS) - {"sandbox.mine"})),
    params=st.lists(PARAM, max_size=4)
    | st.dictionaries(st.sampled_from(["height", "scripthash", "tx_hash", "depth", "sat"]), PARAM),
)
def test_any_parameters_give_a_result_or_the_declared_error(
    box: Sandbox, method: str, params: Any
) -> None:
    session = Session(box, lambda: None)

    async def call() -> None:
        try:
            rpc.encode(await session.call(rpc.Request(1, method, params)))
        except rpc.RPCError as error:
            rpc.encode(rpc.failure(1, error))

    trio.run(call)
