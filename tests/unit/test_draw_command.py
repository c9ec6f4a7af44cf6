"""`p2pnode draw verify FILE --electrum`: a process with the file and a chain, and nothing else."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from sandbox_kit import FakeClock
from trade_facts import Play, record

from escrow.drawfile import draw_to_json
from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.server import ElectrumServer
from p2pnode.base.errors import LocalFault, Misconfigured, NodeError, Unreachable
from p2pnode.base.groups import fault_of, one_fault
from p2pnode.base.transaction import Header

ROOT = Path(__file__).parents[2]
MAIN_GENESIS = (
    "01000000" + "00" * 32 + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    "29ab5f49ffff001d1dac2b7c"
)
Verify = Callable[..., Awaitable[subprocess.CompletedProcess[bytes]]]


class BoxEyes:
    """A sandbox's chain as the draw sees it."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box

    def _header(self, height: int) -> Header | None:
        if height > self._box.height:
            return None
        return Header(self._box.chain.raw_block(height)[:80])

    def block_hash(self, height: int) -> bytes | None:
        header = self._header(height)
        return header.hash if header else None

    def merkle_root(self, height: int) -> bytes | None:
        header = self._header(height)
        return header.merkle_root if header else None

    def mtp(self, height: int) -> int:
        return self._box.chain.index.mtp(height)


def transcript(box: Sandbox) -> dict[str, Any]:
    """A draw on this sandbox's chain."""

    eyes = BoxEyes(box)
    numbered = {n: record(n, 80, at_hash=eyes.block_hash(80) or b"") for n in range(5)}
    play = Play(numbered=numbered, chain=eyes, anchor=box.height - 6)
    play.say(play.taker, play.take())
    play.say(play.maker, play.draw())
    play.say(play.taker, play.reveal())
    return draw_to_json(*play.messages, numbered.values(), play.drawn)


@pytest.fixture(scope="module")
def box() -> Any:
    box = Sandbox(None, clock=FakeClock())
    yield box
    box.close()


@pytest.fixture
async def port(box: Sandbox) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(ElectrumServer(box).serve, 0)
        nursery.cancel_scope.cancel()


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    async def run(file: Any, port: int, *more: str) -> subprocess.CompletedProcess[bytes]:
        path = tmp_path / "draw.json"
        path.write_bytes(file if type(file) is bytes else json.dumps(file).encode())
        argv = [sys.executable, str(ROOT / "cli.py"), "draw", "verify", str(path)]
        argv += ["--electrum", f"127.0.0.1:{port}", "--json", *more]
        with trio.fail_after(30):
            return await trio.run_process(
                argv, capture_stdout=True, capture_stderr=True, check=False
            )

    return run


def error(run: subprocess.CompletedProcess[bytes]) -> dict[str, str]:
    """The one line on stderr; there is nothing else, and no traceback."""
    assert run.stdout == b""
    (line,) = run.stderr.splitlines()
    found: dict[str, str] = json.loads(line)["error"]
    return found


async def test_a_true_draw_is_verified(box: Sandbox, port: int, verify: Verify) -> None:
    file = transcript(box)
    run = await verify(file, port)
    assert (run.returncode, run.stderr) == (0, b"")
    answer = json.loads(run.stdout)
    assert answer["verified"] is True
    assert answer["arbiter"] == file["arbiter"]
    assert answer["eligible"] == 5


async def test_an_altered_line_is_named_with_65(box: Sandbox, port: int, verify: Verify) -> None:
    file = transcript(box)
    for line, bad in (
        ("seed", file | {"seed": "00" * 32}),
        ("records", file | {"records": file["records"][1:]}),
        ("take.payload", file | {"take": file["take"] | {"payload": file["draw"]["payload"]}}),
    ):
        run = await verify(bad, port)
        assert (run.returncode, error(run)["field"]) == (65, line)


async def test_a_line_written_twice_is_named(box: Sandbox, port: int, verify: Verify) -> None:
    text = json.dumps(transcript(box))
    run = await verify(f'{{"seed": "00", {text[1:]}'.encode(), port)
    assert run.returncode == 65
    assert error(run)["message"] == "'seed': stands there twice"


async def test_another_chain_of_the_same_network_is_named(verify: Verify, port: int) -> None:
    """Its anchor is not on the server's chain."""
    other = Sandbox(None, clock=FakeClock(1_600_000_000))
    try:
        run = await verify(transcript(other), port)
    finally:
        other.close()
    assert (run.returncode, error(run)["field"]) == (65, "take.anchor_hash")


async def test_no_chain_server_is_69(box: Sandbox, verify: Verify) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    free = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    run = await verify(transcript(box), free)
    assert run.returncode == 69
    assert "no chain server answers" in error(run)["message"]


async def _other_network(stream: trio.SocketStream) -> None:
    """As much of an Electrum server of the main chain as a client asks before it leaves."""
    buffer = b""
    async for chunk in stream:
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            asked = json.loads(line)
            answer = {
                "server.version": ["Other 1.0", "1.4"],
                "blockchain.headers.subscribe": {"height": 0, "hex": MAIN_GENESIS},
                "blockchain.block.headers": {"count": 1, "hex": MAIN_GENESIS, "max": 2016},
            }[asked["method"]]
            reply = {"jsonrpc": "2.0", "id": asked["id"], "result": answer}
            await stream.send_all(json.dumps(reply).encode() + b"\n")


async def test_a_server_of_another_network_is_78(box: Sandbox, verify: Verify) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(_serve_other)
        run = await verify(transcript(box), listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()
    assert run.returncode == 78
    assert error(run)["field"] == "electrum"
    assert "follows another chain than sandbox" in error(run)["message"]


async def _serve_other(task_status: Any) -> None:
    await trio.serve_tcp(_other_network, 0, host="127.0.0.1", task_status=task_status)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'"\\ud800"', b"NaN"]
)
async def test_what_is_no_transcript_is_65(raw: bytes, verify: Verify) -> None:
    run = await verify(raw, 1)
    assert run.returncode == 65
    assert error(run)["code"] == "bad_data"


async def test_a_file_that_is_not_there_or_too_long(verify: Verify, tmp_path: Path) -> None:
    from escrow.drawfile import MAX_FILE

    run = await verify(b"x" * (MAX_FILE + 1), 1)
    assert (run.returncode, error(run)["field"]) == (65, "file")
    argv = [sys.executable, str(ROOT / "cli.py"), "draw", "verify", str(tmp_path / "none")]
    gone = await trio.run_process(
        [*argv, "--electrum", "127.0.0.1:1"], capture_stderr=True, check=False
    )
    assert gone.returncode == 74
    assert b"Traceback" not in gone.stderr


# ------------------------------------------------------------------ one fault out of a group


def test_a_fault_is_taken_out_of_the_groups_around_it() -> None:
    deep = ExceptionGroup("a", [ExceptionGroup("b", [Misconfigured("wrong chain")])])
    found = fault_of(deep)
    assert isinstance(found, Misconfigured)
    with pytest.raises(Misconfigured, match="wrong chain"), one_fault():
        raise deep


def test_the_first_of_several_faults_is_told() -> None:
    group = ExceptionGroup("a", [Unreachable("one"), LocalFault("two")])
    with pytest.raises(Unreachable, match="one"), one_fault():
        raise group


@pytest.mark.parametrize("bug", [ValueError("x"), KeyboardInterrupt()])
def test_a_bug_beside_a_fault_is_not_hidden(bug: BaseException) -> None:
    group = BaseExceptionGroup("a", [Unreachable("one"), BaseExceptionGroup("b", [bug])])
    assert fault_of(group) is None
    with pytest.raises(BaseExceptionGroup) as caught, one_fault():
        raise group
    assert caught.value is group


def test_a_fault_alone_passes_as_it_is() -> None:
    with pytest.raises(NodeError, match="as it is"), one_fault():
        raise LocalFault("as it is")
