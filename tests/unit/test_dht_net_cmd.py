"""`p2pnode net`: its streams and exit codes are an interface."""

import json

import pytest
from click.testing import CliRunner
from dht_kit import NETWORK, NOTE, identity, note, town, until

from p2pnode.app.client import Client
from p2pnode.app.commands.net import net
from p2pnode.app.routes import Call
from p2pnode.app.routes_net import routes
from p2pnode.base.identity import peer_id

ALICE = identity("alice").node_id


def run(*argv, answers=None):
    def get(_self, path):
        return (answers or {})[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "get", get)
        return CliRunner().invoke(net, argv)


def seeds_file(tmp_path, *entries):
    path = tmp_path / "seeds.json"
    path.write_text(json.dumps({"version": 1, "networks": {"sandbox": list(entries)}}))
    return str(path)


GOOD = {"peer_id": peer_id(ALICE), "addrs": ["/ip4/192.0.2.7/tcp/4001"]}


def test_a_sound_list_of_seeds_exits_0(tmp_path):
    result = run("seeds", "verify", seeds_file(tmp_path, GOOD), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"network": "sandbox", "seeds": 1}


def test_a_bad_seed_is_named_with_exit_code_65(tmp_path):
    bad = GOOD | {"addrs": ["/ip4/192.0.2.7/udp/4001"]}
    result = run("seeds", "verify", seeds_file(tmp_path, GOOD, bad), "--json")
    assert result.exit_code == 65
    assert json.loads(result.stdout) == {"network": "sandbox", "seeds": 1}
    error = json.loads(result.stderr)["error"]
    assert error["code"] == "bad_data"
    assert "networks.sandbox[1].addrs" in error["message"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b"x" * 300_000])
def test_a_file_that_is_no_list_of_seeds_exits_65(tmp_path, content):
    path = tmp_path / "seeds.json"
    path.write_bytes(content)
    result = run("seeds", "verify", str(path))
    assert result.exit_code == 65
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")


def test_a_file_that_is_not_there_is_usage(tmp_path):
    assert run("seeds", "verify", str(tmp_path / "none.json")).exit_code == 2


async def test_the_routes_say_what_the_commands_show():
    async with town() as build:
        a, b = await build.node("a"), await build.node("b")
        await b.dht.join([a.peer])
        await until(lambda: b.id in a.dht.table)
        await a.dht.put(NOTE, note(a.identity, "m"))
        answers = {r.path: await r.handler(Call()) for r in routes(a.dht, a.streams)}

    shown = json.loads(run("peers", "--json", answers=answers).stdout)
    assert shown == {
        "node_id": b.id.hex(),
        "peer_id": peer_id(b.id),
        "addrs": list(b.streams.addrs()),
    }
    assert b.id.hex()[:16] in run("peers", answers=answers).stdout
    counts = json.loads(run("dht", "--json", answers=answers).stdout)
    assert counts["contacts"] == 1
    assert counts["kinds"] == {"note": 1}
    assert f"{a.streams.addrs()[0]}/p2p/{peer_id(a.id)}" in run("dht", answers=answers).stdout
    assert NETWORK.name == "sandbox"


def test_no_peers_is_not_an_error():
    result = run("peers", answers={"/v1/net/peers": []})
    assert (result.exit_code, result.stdout) == (0, "")
    assert "--bootstrap" in result.stderr
