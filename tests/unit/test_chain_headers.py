"""The header chain takes linked, worked, rising headers of its network, and nothing else."""

import struct

import pytest

from escrow import headers
from escrow.headers import HeaderChain
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import NETWORKS
from p2pnode.base.transaction import Header, double_sha256

NET = NETWORKS["regtest"]
BITS = 0x207FFFFF
GENESIS = bytes.fromhex(
    "01000000" + "00" * 32 + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    "dae5494dffff7f2002000000"
)
START = Header(GENESIS).time


def mined(
    prev: bytes, time: int, *, root: bytes = bytes(32), bits: int = BITS, work: bool = True
) -> bytes:
    for nonce in range(1 << 16):
        raw = struct.pack("<I", 4) + prev + root + struct.pack("<III", time, bits, nonce)
        if Header(raw).has_work == work:
            return raw
    raise AssertionError


def run_of(prev: bytes, count: int, time: int, root: bytes = bytes(32)) -> bytes:
    run = b""
    for n in range(count):
        run += mined(prev, time + 600 * n, root=root)
        prev = double_sha256(run[-80:])
    return run


def grown(count: int = 12) -> HeaderChain:
    chain = HeaderChain(NET)
    assert chain.offer(0, GENESIS) == 0
    if count:
        assert chain.offer(1, run_of(double_sha256(GENESIS), count, START + 600)) == 1
    return chain


def test_every_view_of_the_chain_agrees() -> None:
    chain = grown(12)
    assert chain.height == 12
    for height in range(13):
        header = chain.header(height)
        assert header is not None
        assert chain.block_hash(height) == header.hash
        assert chain.merkle_root(height) == header.merkle_root
    assert chain.tip().hash == chain.block_hash(12)
    assert chain.tip().mtp == chain.mtp(12) == START + 600 * 7  # the sixth of 2..12
    assert chain.mtp(0) == START
    assert chain.mtp(1) == START + 600  # of two the later, as BIP 113's code has it


@pytest.mark.parametrize("height", [-1, 13, 1 << 40])
def test_outside_the_chain_there_is_nothing(height: int) -> None:
    chain = grown(12)
    assert chain.header(height) is chain.block_hash(height) is chain.merkle_root(height) is None
    with pytest.raises(InvalidRecord, match="height"):
        chain.mtp(height)


def test_an_empty_chain_has_no_tip() -> None:
    with pytest.raises(InvalidRecord, match="empty"):
        HeaderChain(NET).tip()


def test_only_the_networks_genesis_is_block_zero() -> None:
    for name in ("main", "testnet4", "signet"):
        other = HeaderChain(NETWORKS[name])
        assert not other.links(0, GENESIS)
        with pytest.raises(InvalidRecord):
            other.offer(0, GENESIS)
        assert other.height == -1
    assert HeaderChain(NETWORKS["sandbox"]).links(0, GENESIS)


def tip_of(chain: HeaderChain) -> tuple[bytes, int]:
    tip = chain.header(chain.height)
    assert tip is not None
    return tip.hash, tip.time


@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("prev", lambda prev, time: mined(bytes(32), time)),
        ("nonce", lambda prev, time: mined(prev, time, work=False)),
        ("bits", lambda prev, time: mined(prev, time, bits=0x207FFFFE)),
        ("bits", lambda prev, time: mined(prev, time, bits=0x1F7FFFFF, work=False)),
        ("time", lambda prev, time: mined(prev, START + 600 * 7)),  # the median itself
        ("headers", lambda prev, time: mined(prev, time)[:-1]),
        ("prev", lambda prev, time: run_of(prev, 1, time) + run_of(prev, 1, time + 600)),
    ],
)
def test_a_wrong_header_is_named_and_nothing_changes(field: str, spoil: object) -> None:
    chain = grown(12)
    prev, time = tip_of(chain)
    with pytest.raises(InvalidRecord) as caught:
        chain.offer(13, spoil(prev, time + 600))  # type: ignore[operator]
    assert caught.value.field == field
    assert chain.tip().hash == prev


def test_just_above_the_median_is_late_enough() -> None:
    chain = grown(12)
    prev, _ = tip_of(chain)
    assert chain.offer(13, mined(prev, START + 600 * 7 + 1)) == 13


def test_a_wrong_header_late_in_a_run_takes_the_whole_run_down() -> None:
    chain = grown(12)
    prev, time = tip_of(chain)
    run = run_of(prev, 3, time + 600)
    bad = run + mined(double_sha256(run[-80:]), time + 2400, work=False)
    with pytest.raises(InvalidRecord, match="height 16"):
        chain.offer(13, bad)
    assert chain.height == 12


def test_a_longer_branch_wins_and_a_shorter_one_does_not() -> None:
    chain = grown(12)
    fork = chain.block_hash(8)
    assert fork is not None
    shorter = run_of(fork, 3, START + 600 * 9, root=b"\x01" * 32)
    longer = run_of(fork, 5, START + 600 * 9, root=b"\x02" * 32)
    before = chain.tip()
    assert chain.offer(9, shorter) is None
    assert chain.tip() == before
    assert chain.offer(9, longer) == 9
    assert chain.height == 13
    assert chain.merkle_root(9) == b"\x02" * 32
    assert chain.block_hash(8) == fork


def test_what_is_known_changes_nothing_and_a_common_start_is_not_a_reorg() -> None:
    chain = grown(12)
    known = b"".join(h.raw for n in range(5, 13) if (h := chain.header(n)))
    assert chain.offer(5, known) is None
    prev, time = tip_of(chain)
    assert chain.offer(5, known + run_of(prev, 2, time + 600)) == 13


def test_gaps_and_endless_chains_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = grown(12)
    prev, time = tip_of(chain)
    with pytest.raises(InvalidRecord, match="gap"):
        chain.offer(14, run_of(prev, 1, time + 600))
    monkeypatch.setattr(headers, "MAX_HEADERS", 13)
    with pytest.raises(InvalidRecord, match="more than"):
        chain.offer(13, run_of(prev, 1, time + 600))


def test_a_public_network_refuses_regtests_cheap_work() -> None:
    chain = HeaderChain(NETWORKS["main"])
    genesis = bytes.fromhex(
        "01000000"
        + "00" * 32
        + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    )
    assert chain.offer(0, genesis) == 0
    with pytest.raises(InvalidRecord, match="bits"):
        chain.offer(1, mined(double_sha256(genesis), START))
