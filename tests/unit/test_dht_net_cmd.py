"""`p2pnode net`: its streams and exit codes are an interface."""

import json

import pytest
import trio
from click.testing import CliRunner
from dht_kit import NETWORK, NOTE, NOW, identity, note, town, until

from dht import bootstrap
from p2pnode.app.client import Client
from p2pnode.app.commands import net as command
from p2pnode.app.commands.net import net
from p2pnode.app.routes import Call
from p2pnode.app.routes_net import LastMinute, routes
from p2pnode.base.errors import NodeError
from p2pnode.base.identity import peer_id

ALICE, BOB = identity("alice"), identity("bob")
DAY = 86400


def run(*argv, answers=None):
    def get(_self, path):
        return (answers or {})[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "get", get)
        patch.setattr(command.time, "time", lambda: NOW)
        return CliRunner().invoke(net, argv)


def seeds_file(tmp_path, *entries):
    path = tmp_path / "seeds.json"
    path.write_text(json.dumps({"version": 1, "networks": {"sandbox": list(entries)}}))
    return str(path)


def verbs(node):
    """Return the routes of a node in a town, by method and path."""
    minute = LastMinute(node.dht.tally.counts)
    made = routes(node.dht, node.streams, node.identity, NETWORK, node.clock, minute)
    return {(r.method, r.path): r.handler for r in made}


GOOD = {"peer_id": peer_id(ALICE.node_id), "addrs": ["/ip4/192.0.2.7/tcp/4001"]}
SIGNED = bootstrap.sign(BOB, NETWORK, ["/dns4/seed.example/tcp/4001"], NOW + 90 * DAY)


# ------------------------------------------------------------------ seeds


def test_a_sound_list_of_seeds_exits_0(tmp_path):
    result = run("seeds", "verify", seeds_file(tmp_path, GOOD, SIGNED), "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["network"], told["seeds"]) == ("sandbox", 2)
    assert told["entries"] == [
        {"index": 0, "usable": True, "state": "unsigned", "why": "",
         "peer_id": GOOD["peer_id"], "expires_at": None},
        {"index": 1, "usable": True, "state": "signed", "why": "",
         "peer_id": SIGNED["peer_id"], "expires_at": NOW + 90 * DAY},
    ]  # fmt: skip
    shown = run("seeds", "verify", seeds_file(tmp_path, GOOD, SIGNED)).stdout.splitlines()
    assert shown == [
        "sandbox    2 seeds",
        "  [0] unsigned, /ip4/192.0.2.7/tcp/4001",
        "  [1] signed until 2027-04-15 08:00 UTC, /dns4/seed.example/tcp/4001",
    ]


@pytest.mark.parametrize(
    ("bad", "state", "field"),
    [
        (GOOD | {"addrs": ["/ip4/192.0.2.7/udp/4001"]}, "invalid", "addrs"),
        (SIGNED | {"addrs": GOOD["addrs"]}, "bad signature", "signature"),
        (bootstrap.sign(BOB, NETWORK, GOOD["addrs"], NOW), "expired", "expires_at"),
    ],
)
def test_a_bad_seed_is_named_with_exit_code_65(tmp_path, bad, state, field):
    result = run("seeds", "verify", seeds_file(tmp_path, GOOD, bad), "--json")
    assert result.exit_code == 65
    told = json.loads(result.stdout)
    assert told["seeds"] == 1
    assert (told["entries"][1]["state"], told["entries"][1]["usable"]) == (state, False)
    assert told["entries"][1]["why"].startswith(f"{field}: ")
    error = json.loads(result.stderr)["error"]
    assert error["code"] == "bad_data"
    assert f"networks.sandbox[1].{field}" in error["message"]
    shown = run("seeds", "verify", seeds_file(tmp_path, GOOD, bad))
    assert f"  [1] {state}, skipped: {field}: " in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


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


async def test_a_seed_signs_its_own_entry_and_verify_takes_it(tmp_path):
    outside = "/dns4/seed.example.org/tcp/4001"
    async with town() as build:
        a = await build.node("a")
        sign = verbs(a)["POST", "/v1/net/seeds/sign"]
        told = await sign(Call(body={"days": 90, "addrs": [outside]}))
        here = await sign(Call(body={"days": 1, "addrs": []}))
        long = f"{outside}/p2p/{peer_id(a.id)}"  # as `status` shows it
        assert (await sign(Call(body={"days": 90, "addrs": [long]}))) == told
        for body, field in (
            ({"addrs": [f"{outside}/p2p/{peer_id(BOB.node_id)}"]}, "addrs"),
            ({"addrs": "x"}, "addrs"),
            ({"addrs": [7]}, "addrs"),
            ({"addrs": [outside] * 5}, "addrs"),
            ({"days": 0}, "days"),
            ({"days": 367}, "days"),
        ):
            with pytest.raises(NodeError) as caught:
                await sign(Call(body=body))
            assert caught.value.field == field
    assert told["entry"]["addrs"] == [outside]
    assert here["entry"]["addrs"] == list(a.streams.addrs())
    result = run("seeds", "verify", seeds_file(tmp_path, told["entry"]), "--json")
    assert json.loads(result.stdout)["entries"][0]["state"] == "signed"


def test_the_entry_is_printed_to_be_pasted_and_remarks_go_elsewhere():
    with pytest.MonkeyPatch.context() as patch:
        asked = []
        near = GOOD | {"expires_at": NOW, "signature": "00" * 64}

        def post(_self, path, **body):
            asked.append((path, body))
            return {"network": "sandbox", "entry": near | {"addrs": ["/ip4/127.0.0.1/tcp/1"]}}

        patch.setattr(Client, "post", post)
        result = CliRunner().invoke(net, ["seeds", "sign", "--days", "7"])
    assert json.loads(result.stdout)["signature"] == "00" * 64
    assert asked == [("/v1/net/seeds/sign", {"addrs": [], "days": 7})]
    assert "reached from near by alone" in result.stderr
    assert "good until 2027-01-15" in result.stderr


# ------------------------------------------------------------------ peers and the DHT


async def test_the_routes_say_what_the_commands_show():
    async with town() as build:
        a, b = await build.node("a"), await build.node("b")
        minute = LastMinute(a.dht.tally.counts)
        await b.dht.join([a.peer])
        await until(lambda: b.id in a.dht.table)
        await a.dht.put(NOTE, note(a.identity, "m"))
        made = routes(a.dht, a.streams, a.identity, NETWORK, a.clock, minute)
        answers = {r.path: await r.handler(Call()) for r in made if r.method == "GET"}

    shown = json.loads(run("peers", "--json", answers=answers).stdout)
    assert (shown["node_id"], shown["peer_id"]) == (b.id.hex(), peer_id(b.id))
    assert shown["addrs"] == list(b.streams.addrs())
    assert 0 <= shown["rtt_ms"] < 5000
    assert (shown["silent_s"], shown["points"]) == (0, 0)
    assert b.id.hex()[:16] in run("peers", answers=answers).stdout
    counts = json.loads(run("dht", "--json", answers=answers).stdout)
    assert counts["contacts"] == 1
    assert counts["kinds"] == {"note": 1}
    assert counts["reached"] == 1
    assert counts["lookups_minute"] > 0
    assert counts["counts"]["answered_ping"] >= 1
    text = run("dht", answers=answers).stdout
    assert f"{a.streams.addrs()[0]}/p2p/{peer_id(a.id)}" in text
    assert "reached   yes: 1 connection came in, " in text
    assert "records   1 held: 1 note" in text
    assert "bans      0\n" in text
    assert NETWORK.name == "sandbox"


async def test_a_minute_is_the_last_one_and_not_the_whole_life(autojump_clock):
    from collections import Counter

    del autojump_clock
    counts = Counter(lookups=1000)
    minute = LastMinute(counts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(minute.run)
        for _ in range(10):
            counts["lookups"] += 1
            counts["asked_ping"] += 6
            await trio.sleep(6)
        await trio.sleep(0.5)
        assert minute.of("lookups", trio.current_time()) == 10
        assert 55 <= minute.of("asked_", trio.current_time()) <= 65
        await trio.sleep(90)
        assert minute.of("lookups", trio.current_time()) == 0
        nursery.cancel_scope.cancel()


ROW = {
    "node_id": "a4c21f7790ab11cd" + "0" * 48,
    "peer_id": "12D3Koo",
    "addrs": ["/ip4/198.51.100.217/tcp/4001", "/ip6/2001:db8::1/tcp/4001"],
    "rtt_ms": 48.3,
    "silent_s": 200,
    "points": 12,
}


def test_peers_are_a_table_within_80_columns():
    rows = [ROW, ROW | {"rtt_ms": 0.2, "silent_s": None, "addrs": []}, ROW | {"rtt_ms": None}]
    lines = run("peers", answers={"/v1/net/peers": rows}).stdout.splitlines()
    assert lines[:3] == [
        "NODE                  RTT      HEARD POINTS  ADDRESS",
        "a4c21f7790ab11cd    48 ms  3 min ago     12  /ip4/198.51.100.217/tcp/4001",
        "                                             /ip6/2001:db8::1/tcp/4001",
    ]
    assert lines[3] == "a4c21f7790ab11cd    <1 ms          -     12  -"
    assert max(map(len, lines)) <= 80


def test_a_node_that_nobody_reaches_is_told_so():
    answer = {
        "node_id": "ab" * 32, "peer_id": "12D3", "addrs": [], "contacts": 12_345, "buckets": 1,
        "streams": 0, "records": 200_000, "kinds": {}, "listens": 1, "subscriptions": 0, "bans": 2,
        "inbound": 0, "connected": 0, "reached": 0, "lookups_minute": 0, "asked_minute": 0,
        "answered_minute": 1_000, "transport_counts": {"connections_refused": 7},
        "counts": {"refused": 1, "refused_method": 1, "quota_waits": 1},
    }  # fmt: skip
    text = run("dht", answers={"/v1/net/dht": answer}).stdout
    assert "nowhere: it can ask, and cannot be asked" in text
    assert "reached   not yet: nobody has connected to this node" in text
    assert "refused   7 connections, 0 streams, 2 questions; 1 wait for a" in text
    assert "bans      2 (p2pnode net ban list)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_peers_is_not_an_error():
    result = run("peers", answers={"/v1/net/peers": []})
    assert (result.exit_code, result.stdout) == (0, "")
    assert "--bootstrap" in result.stderr
