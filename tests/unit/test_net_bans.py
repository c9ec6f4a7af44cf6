"""`p2pnode net ban`: who is kept out is listed, explained and let in again."""

import json

import pytest
from click.testing import CliRunner
from dht_kit import NETWORK, NOW, identity, town, until

from p2pnode.app.client import Client
from p2pnode.app.commands import net_ban
from p2pnode.app.commands.net import net
from p2pnode.app.commands.net_ban import span
from p2pnode.app.routes import Call
from p2pnode.app.routes_net import LastMinute, routes
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, UsageFault
from p2pnode.base.store import Database

ALICE = identity("alice").node_id.hex()


class Api:
    """The ban routes of a node in a town."""

    def __init__(self, node):
        minute = LastMinute(node.dht.tally.counts)
        made = routes(node.dht, node.streams, node.identity, NETWORK, node.clock, minute)
        self._verbs = {(r.method, r.path): r.handler for r in made}

    async def bans(self):
        return await self._verbs["GET", "/v1/net/bans"](Call())

    async def add(self, subject, **body):
        return await self._verbs["POST", "/v1/net/bans"](Call(body={"subject": subject} | body))

    async def remove(self, subject):
        return await self._verbs["POST", "/v1/net/bans/remove"](Call(body={"subject": subject}))


async def test_a_node_is_banned_by_a_prefix_closed_kept_out_over_a_restart_and_let_in_again():
    database = Database(None)
    async with town() as build:
        a, b = await build.node("a", database=database), await build.node("b")
        await b.dht.join([a.peer])
        await until(lambda: b.id in a.dht.table and a.id in b.streams.connected())
        api = Api(a)
        row = await api.add(b.id.hex()[:8], seconds=7200, reason="asks all day")
        assert row == {
            "subject": b.id.hex(), "reason": "asks all day", "since": NOW,
            "until": NOW + 7200, "by_hand": True,
        }  # fmt: skip
        assert await api.bans() == [row]
        await until(lambda: a.id not in b.streams.connected())
        assert b.id not in a.dht.table
        assert await b.dht.meet([a.peer]) == 0
        await a.kill()

        again = await build.node("a", database=database)
        assert await Api(again).bans() == [row]
        assert await b.dht.meet([again.peer]) == 0
        assert await Api(again).remove(b.id.hex()[:8]) == row
        assert await Api(again).bans() == []
        assert await b.dht.meet([again.peer]) == 1


async def test_networks_and_for_ever():
    async with town() as build:
        api = Api(await build.node("a"))
        row = await api.add("192.0.2.9/32", seconds=0)
        assert (row["subject"], row["until"], row["reason"]) == (
            "192.0.2.9/32",
            None,
            "banned by hand",
        )
        await api.add("192.0.2.0/24", seconds=60)
        assert [r["subject"] for r in await api.bans()] == ["192.0.2.0/24", "192.0.2.9/32"]
        assert (await api.remove("192.0.2.9"))["subject"] == "192.0.2.9/32"
        with pytest.raises(NotFound, match=r"is not banned by itself: remove .* 192\.0\.2\.0/24"):
            await api.remove("192.0.2.9")
        with pytest.raises(NotFound, match=r"198.* is not banned"):
            await api.remove("198.51.100.7")


async def test_what_cannot_be_meant_is_refused_by_name():
    async with town() as build:
        a = await build.node("a")
        api = Api(a)
        for subject, kind in (
            ("nobody", InvalidRecord),
            ("", InvalidRecord),
            ("192.0.2.300", InvalidRecord),
            ("abc", InvalidRecord),  # fewer digits than name anybody
            ("abcdef", NotFound),
            (a.id.hex(), LocalFault),
            ("0.0.0.0/0", LocalFault),
            ("::/0", LocalFault),
        ):
            with pytest.raises(kind) as caught:
                await api.add(subject)
            assert caught.value.field == "subject"
        for body in ({"seconds": -1}, {"seconds": 2**40}, {"seconds": True}):
            with pytest.raises(UsageFault) as caught:
                await api.add(ALICE, **body)
            assert caught.value.field == "seconds"
        with pytest.raises(InvalidRecord) as caught:
            await api.add(ALICE, reason="x" * 300)
        assert caught.value.field == "reason"
        assert await api.bans() == []


async def test_a_prefix_that_fits_two_banned_nodes_is_not_guessed():
    async with town() as build:
        api = Api(await build.node("a"))
        await api.add("ab" * 32)
        await api.add("abab" + "cd" * 30)
        with pytest.raises(NotFound, match="fits several"):
            await api.remove("abab")
        assert (await api.remove("ababcd"))["subject"].startswith("ababcd")


# ------------------------------------------------------------------ the command


def run(*argv, answer=None):
    asked = []

    def ask(_self, path, **body):
        asked.append((path, body))
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "get", ask)
        patch.setattr(Client, "post", ask)
        patch.setattr(net_ban.time, "time", lambda: NOW)
        return CliRunner().invoke(net, ["ban", *argv]), asked


ROWS = [
    {"subject": ALICE, "reason": "asked far beyond its quota", "since": NOW - 2280,
     "until": NOW + 1320, "by_hand": False},
    {"subject": "192.0.2.0/24", "reason": "one of them after another, all through the night",
     "since": NOW, "until": None, "by_hand": True},
]  # fmt: skip


def test_the_list_says_who_how_long_and_why_within_80_columns():
    result, _ = run("list", answer=ROWS)
    assert result.stdout.splitlines() == [
        "SUBJECT              ENDS           BY    REASON",
        f"{ALICE[:16]}…    22 min left    node  asked far beyond its quota",
        "192.0.2.0/24         for ever       hand  one of them after another, all through",
        "                                          the night",
    ]
    result, _ = run("list", "--json", answer=ROWS)
    assert [json.loads(line) for line in result.stdout.splitlines()] == ROWS
    result, _ = run("list", answer=[])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "nobody is banned\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("2h", 7200), ("7d", 604800), ("2w", 1209600), ("ever", 0)],
)
def test_a_time_is_given_as_people_say_it(text, seconds):
    result, asked = run("add", "192.0.2.7", "--for", text, "--reason", "why", answer=ROWS[1])
    body = {"subject": "192.0.2.7", "seconds": seconds, "reason": "why"}
    assert asked == [("/v1/net/bans", body)]
    assert result.stdout == "banned 192.0.2.0/24 for ever\n"
    assert "to let it in again: p2pnode net ban remove 192.0.2.0/24\n" in result.stderr


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "-1h", "2 h", "2y", "1.5h", "99999d", "²h"])
def test_another_time_is_a_slip_in_the_words(text):
    result, asked = run("add", "192.0.2.7", "--for", text)
    assert (result.exit_code, asked) == (2, [])
    assert "30m, 2h, 7d, 2w, or ever" in result.stderr


def test_a_removal_says_who_may_come_in():
    result, asked = run("remove", "192.0.2.0/24", answer=ROWS[1])
    assert asked == [("/v1/net/bans/remove", {"subject": "192.0.2.0/24"})]
    assert result.stdout == "192.0.2.0/24 may come in again\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"),
     (172_800, "2 d")],
)  # fmt: skip
def test_spans(seconds, text):
    assert span(seconds) == text
