"""What a node is composed with: a seed's room, the exempt networks, the usable seeds of the file."""

import json
from types import SimpleNamespace

import pytest
import trio
from dht_kit import NETWORK, NOW, Clock, identity

from dht import bootstrap
from dht.admission import SEED_LIMITS, Limits
from dht.endpoint import Peer
from dht.room import SEED_ROOM, Room
from p2pnode.app import compose, node
from p2pnode.app.config import Settings
from p2pnode.base import keystore
from p2pnode.base.identity import peer_id
from p2pnode.base.store import Database

ALICE, BOB = identity("alice"), identity("bob")


class SeenError(Exception):
    pass


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keystore"
    return keystore.create(path, NETWORK, "a long passphrase", bytes(16))


@pytest.mark.parametrize(
    ("seed", "room", "limits"), [(True, SEED_ROOM, SEED_LIMITS), (False, Room(), Limits())]
)
async def test_a_seed_has_more_room_and_the_exempt_networks_hold_everywhere(
    monkeypatch, tmp_path, keys, seed, room, limits
):
    settings = Settings(
        data_dir=tmp_path, network=NETWORK, seed=seed, exempt_subnets=("10.0.0.0/8",)
    )

    def seen(*_args, **named):
        raise SeenError(named)

    monkeypatch.setattr(node, "open_streams", seen)
    with pytest.raises(SeenError) as caught:
        await node.run_node(settings, keys, print, trio.Event())
    (named,) = caught.value.args
    assert named["limits"] == limits
    assert [str(n) for n in named["subnets"].exempt] == ["10.0.0.0/8"]

    monkeypatch.setattr(compose, "Dht", seen)
    with pytest.raises(SeenError) as caught:
        streams = SimpleNamespace(node_id=ALICE.node_id)
        node.Node(settings, keys, compose.Files(*(Database(None) for _ in range(3))), streams)
    (named,) = caught.value.args
    assert named["room"] == room
    assert [str(n) for n in named["subnets"].exempt] == ["10.0.0.0/8"]


def test_a_seed_has_more_of_everything():
    for field in ("records", "links", "listens"):
        assert getattr(SEED_ROOM, field) > getattr(Room(), field)
    for field in ("inbound", "strangers", "outbound"):
        assert getattr(SEED_LIMITS, field) > getattr(Limits(), field)


def test_at_a_start_a_bad_entry_is_named_in_the_log_and_skipped(monkeypatch, tmp_path, caplog):
    good = bootstrap.sign(ALICE, NETWORK, ["/ip4/192.0.2.7/tcp/4001"], NOW + 60)
    stale = bootstrap.sign(BOB, NETWORK, ["/ip4/192.0.2.8/tcp/4001"], NOW - 60)
    named = {"peer_id": peer_id(BOB.node_id), "addrs": good["addrs"]}
    listing = {"signed_only": True, "seeds": [stale, named, good]}
    (tmp_path / "bootstrap_nodes.json").write_text(
        json.dumps({"version": 1, "networks": {"sandbox": listing}})
    )
    monkeypatch.setattr(node, "files", lambda _: tmp_path)
    line = f"/ip4/127.0.0.1/tcp/1/p2p/{peer_id(BOB.node_id)}"
    settings = Settings(data_dir=tmp_path, network=NETWORK, bootstrap=(line,))
    nobody = SimpleNamespace(_settings=settings, _clock=Clock())
    assert node.Node._seeds(nobody) == (
        Peer(BOB.node_id, ("/ip4/127.0.0.1/tcp/1",)),
        Peer(ALICE.node_id, ("/ip4/192.0.2.7/tcp/4001",)),
    )
    assert "bootstrap_nodes.json: networks.sandbox[0].expires_at: was 2027-01-15" in caplog.text
    assert "networks.sandbox[1].signature: is missing" in caplog.text
    assert caplog.text.count("(skipped)") == 2
