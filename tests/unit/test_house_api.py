"""The local API over its real socket: errors, bounds, idempotency keys, events that resume."""

import http.client
import json
import os
import socket
import stat

import pytest
import trio

from p2pnode.app import api, api_socket, once
from p2pnode.app.api import Api
from p2pnode.app.client import Client
from p2pnode.app.events import KEPT, Events
from p2pnode.app.routes import Route
from p2pnode.base import errors
from p2pnode.base.errors import LocalFault, NodeError, Unreachable, UsageFault
from p2pnode.base.store import Database


class World:
    """An API with a few routes, served in this trio run; requests leave from threads."""

    def __init__(self, folder, database):
        self.folder, self.stop = folder, trio.Event()
        self.events = Events(database)
        self.acted, self.fault = [], None
        self.gate = trio.Event()
        self.gate.set()
        routes = [
            Route("GET", "/v1/echo/{name}", self.echo),
            Route("GET", "/v1/list", self.list),
            Route("GET", "/v1/fault", self.fail),
            Route("POST", "/v1/pay", self.pay, once=True),
        ]
        self.api = Api(routes, self.events, database)

    async def echo(self, call):
        return {"name": call.text("name"), "n": call.integer("n", 0)}

    async def list(self, call):
        return [1, 2]

    async def fail(self, call):
        raise self.fault

    async def pay(self, call):
        self.acted.append(call.integer("amount_sat"))
        await self.gate.wait()
        if self.fault:
            raise self.fault
        return {"paid": len(self.acted)}

    def raw(self, method, path, body=b"", headers=None):
        connection = http.client.HTTPConnection("x", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.folder / "api.sock"))
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    async def ask(self, *args, **kwargs):
        return await trio.to_thread.run_sync(lambda: self.raw(*args, **kwargs))

    async def pays(self, key, amount=5):
        body = json.dumps({"amount_sat": amount})
        return await self.ask("POST", "/v1/pay", body, {"Idempotency-Key": key})


@pytest.fixture
def database():
    return Database(None)


@pytest.fixture
async def world(tmp_path, database, nursery):
    world = World(tmp_path, database)
    await nursery.start(world.api.serve, tmp_path, world.stop)
    yield world
    world.stop.set()


async def test_the_socket_is_the_owners_alone_and_goes_away(tmp_path, database):
    world = World(tmp_path, database)
    path = tmp_path / "api.sock"
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.api.serve, tmp_path, world.stop)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            world.stop.set()
    assert not path.exists()


async def test_path_and_query_reach_the_handler(world):
    assert await world.ask("GET", "/v1/echo/a%20b?n=7") == (200, {"name": "a b", "n": 7})
    assert await world.ask("GET", "/v1/list") == (200, [1, 2])


@pytest.mark.parametrize(
    "fault",
    [
        errors.UsageFault("amount: is missing", field="amount"),
        errors.InvalidRecord("price", "is not an integer"),
        errors.NotFound("no such trade"),
        errors.LocalFault("not in this state"),
        errors.Unreachable("no peer answered"),
        errors.StorageFault("disk"),
        errors.Locked("locked"),
        errors.PeerFault("the peer lied"),
        errors.WrongPassphrase("no"),
        errors.Misconfigured("no chain", field="electrum"),
        errors.SecondOpinionDiffers("differs"),
    ],
    ids=lambda fault: fault.code,
)
async def test_an_error_comes_out_of_the_client_as_it_went_in(world, fault):
    world.fault = fault
    client = Client(world.folder)
    with pytest.raises(NodeError) as caught:
        await trio.to_thread.run_sync(client.get, "/v1/fault")
    assert type(caught.value) is type(fault)
    assert (str(caught.value), caught.value.field) == (str(fault), fault.field)


async def test_statuses_tell_whose_fault_it_was(world):
    for fault, status in (
        (errors.UsageFault("x"), 400),
        (errors.InvalidRecord("a", "x"), 422),
        (errors.NotFound("x"), 404),
        (errors.LocalFault("x"), 409),
        (errors.SecondOpinionDiffers("x"), 409),
        (errors.Unreachable("x"), 503),
        (errors.PeerFault("x"), 502),
    ):
        world.fault = fault
        assert (await world.ask("GET", "/v1/fault"))[0] == status


async def test_a_bug_is_a_500_without_its_details_and_the_node_lives(world):
    world.fault = KeyError("secret detail")
    status, answer = await world.ask("GET", "/v1/fault")
    assert status == 500
    assert "secret detail" not in json.dumps(answer)
    assert (await world.ask("GET", "/v1/list"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("DELETE", "/v1/list", 405), ("GET", "/", 404)],
)
async def test_unknown_routes_answer_in_json(world, method, path, status):
    got, answer = await world.ask(method, path)
    assert (got, answer["error"]["code"]) == (status, "usage")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"1",
        b"\xff",
        b'{"amount_sat":1,"amount_sat":2}',
        b'{"amount_sat":NaN}',
        b'{"amount_sat":1e3}',
        b'{"amount_sat":"x"}',
        b'{"amount_sat":true}',
        b'{"amount_sat":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"{}",
    ],
    ids=lambda body: body[:24].decode(errors="replace"),
)
async def test_a_bad_body_is_refused_and_nothing_is_done(world, body):
    status, answer = await world.ask("POST", "/v1/pay", body, {"Idempotency-Key": "k"})
    assert (status, answer["error"]["code"]) == (400, "usage")
    assert world.acted == []
    assert await world.pays("k") == (200, {"paid": 1})  # a refusal frees its key


async def test_a_body_over_the_limit_is_refused(world, monkeypatch):
    monkeypatch.setattr(api, "MAX_BODY", 1000)
    body = json.dumps({"amount_sat": 1, "x": "y" * 1000})
    status, answer = await world.ask("POST", "/v1/pay", body, {"Idempotency-Key": "k"})
    assert (status, answer["error"]["field"]) == (400, "body")
    assert world.acted == []


async def test_the_same_key_does_it_once(world):
    first = await world.pays("k")
    assert await world.pays("k") == first == (200, {"paid": 1})
    assert world.acted == [5]


async def test_a_key_belongs_to_one_request(world):
    await world.pays("k")
    status, answer = await world.pays("k", amount=6)
    assert (status, answer["error"]["field"]) == (400, "Idempotency-Key")
    assert world.acted == [5]


@pytest.mark.parametrize("key", ["", "x" * 65, "a b", "é"])
async def test_money_does_not_move_without_a_key(world, key):
    headers = {"Idempotency-Key": key.encode()} if key else {}
    status, _ = await world.ask("POST", "/v1/pay", b'{"amount_sat":5}', headers)
    assert status == 400
    assert world.acted == []


async def test_the_same_request_while_it_runs_is_refused(world):
    world.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.pays, "k")
        while not world.acted:
            await trio.lowlevel.checkpoint()
        status, answer = await world.pays("k")
        assert (status, answer["error"]["code"]) == (409, "refused")
        world.gate.set()
    assert world.acted == [5]


async def test_an_error_after_the_work_began_is_the_answer_for_ever(world):
    world.fault = Unreachable("the server went silent")
    assert (await world.pays("k"))[0] == 503
    world.fault = None
    assert (await world.pays("k"))[0] == 503
    assert world.acted == [5]
    world.fault = LocalFault("not enough funds")
    assert (await world.pays("l"))[0] == 409
    world.fault = None
    assert (await world.pays("l"))[0] == 200


def test_work_cut_off_by_a_restart_is_not_done_again(database):
    request = once.request_hash("POST", "/v1/pay", "", {"amount_sat": 5})
    assert once.Once(database).begin("k", request) is None
    with pytest.raises(LocalFault, match="restart"):
        once.Once(database).begin("k", request)


def test_an_answer_survives_a_restart(database):
    request = once.request_hash("POST", "/v1/pay", "", {})
    before = once.Once(database)
    before.begin("k", request)
    before.finish("k", 200, "{}")
    assert once.Once(database).begin("k", request) == (200, "{}")
    with pytest.raises(UsageFault):
        once.Once(database).begin("k", once.request_hash("POST", "/v1/pay", "", {"a": 1}))


def test_old_answers_are_dropped_and_unanswered_work_never(database, monkeypatch):
    monkeypatch.setattr(once, "KEPT", 3)
    keys = once.Once(database)
    for i in range(10):
        keys.begin(f"k{i}", bytes(32))
        if i:
            keys.finish(f"k{i}", 200, "{}")
    kept = [row["key"] for row in database.all("SELECT key FROM once ORDER BY rowid")]
    assert kept == ["k0", "k7", "k8", "k9"]


# ------------------------------------------------------------------ events


def listen(folder, after, count):
    found = []
    for event in Client(folder).events(after, timeout=10):
        found.append(event)
        if len(found) == count:
            return found
    return found


async def test_events_resume_after_an_id_and_go_on_live(world):
    for n in range(3):
        world.events.publish("tick", n=n)
    found = []

    async def follow():
        found.extend(await trio.to_thread.run_sync(listen, world.folder, 1, 4))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            while not world.api.listeners:
                await trio.lowlevel.checkpoint()
            world.events.publish("tick", n=3)
            world.events.publish("tock", n=4)
    assert [(e["id"], e["event"], e["n"]) for e in found] == [
        (2, "tick", 1),
        (3, "tick", 2),
        (4, "tick", 3),
        (5, "tock", 4),
    ]
    with trio.fail_after(10):
        while world.api.listeners:  # hanging up frees the place
            await trio.lowlevel.checkpoint()


async def test_the_end_of_the_node_ends_the_stream(world):
    found = []

    async def follow():
        found.append(await trio.to_thread.run_sync(listen, world.folder, 0, 1))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            while not world.api.listeners:
                await trio.lowlevel.checkpoint()
            world.stop.set()
    assert found == [[]]


def test_an_event_exists_exactly_if_its_step_was_committed(database):
    events = Events(database)
    with pytest.raises(RuntimeError), database.transaction():
        events.publish("never")
        raise RuntimeError
    with database.transaction():
        events.publish("done", txid="ab")
    (event,) = events.after(0)
    assert (event["event"], event["txid"]) == ("done", "ab")


def test_a_caller_cannot_forge_id_or_kind(database):
    events = Events(database)
    events.publish("offer", id=77, event="trade", at=0)
    (event,) = events.after(0)
    assert (event["id"], event["event"]) == (1, "offer")
    assert event["at"] > 0


async def test_what_was_missed_for_good_is_said(database, monkeypatch):
    monkeypatch.setattr("p2pnode.app.events.KEPT", 2)
    assert KEPT > 1000
    events = Events(database)
    for n in range(5):
        events.publish("tick", n=n)
    stream = events.stream(1)
    assert [(await anext(stream))["event"] for _ in range(3)] == ["gap", "tick", "tick"]
    await stream.aclose()


def test_ids_go_on_after_a_restart(tmp_path):
    path = tmp_path / "db"
    Events(Database(path)).publish("a")
    assert Events(Database(path)).publish("b") == 2


# ------------------------------------------------------------------ the socket's path


def test_a_long_path_moves_to_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    data = tmp_path / ("x" * 100)
    data.mkdir()
    path = api_socket.claim(data)
    assert len(os.fsencode(path)) <= 107
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (data / "api.path").read_text().strip() == str(path)
    again = api_socket.claim(data)  # after a kill: the old folder is not left behind
    assert again != path
    assert not path.parent.exists()
    api_socket.release(data)
    assert os.listdir(data) == []
    assert not again.parent.exists()


def test_a_short_path_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(api_socket.claim(tmp_path)) == str(tmp_path / "api.sock")
