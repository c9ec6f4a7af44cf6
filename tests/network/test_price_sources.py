"""Price sources against real servers and proxies on loopback: documented answers and bad ones."""

import json
import socket
import ssl

import price_kit
import pytest
import trio
from price_kit import ANSWERS, NOW, Forward, Socks, certificate, proxying, serving

from orderbook.backend_prices_http import MAX_BODY, HttpPrices
from orderbook.price_adapters import ADAPTERS
from p2pnode.base.errors import InvalidRecord, NodeError, Unreachable

EUR = 61_240_000_000
USD = 66_010_000_000


def source(server, name="kraken", **extra):
    return HttpPrices(ADAPTERS[name], base=f"http://127.0.0.1:{server.port}", **extra)


def documented(name):
    def answer(path):
        found = ANSWERS[name].get(path)
        return found if found is not None else (404, {}, {"error": path})

    return answer


@pytest.mark.parametrize("name", ADAPTERS)
async def test_each_documented_answer_is_read(name):
    async with serving(documented(name)) as server:
        said = await source(server, name).ask(("USD", "EUR"))
    assert said.faults == {}
    assert set(said.prices) == {"USD", "EUR"}
    for currency, about in (("EUR", EUR), ("USD", USD)):
        price, at = said.prices[currency]
        assert about <= price < about + 1_000_000  # the sources differ by less than a unit
        timed = name in ("bitstamp", "coingecko", "mempool")
        assert NOW - 300 < at <= NOW if timed else at == 0
    assert sorted(server.asked) == sorted(ANSWERS[name])
    assert all(b"user-agent: p2pnode\r\n" in head for head in server.headers)
    assert all(b"cookie" not in head and b"authorization" not in head for head in server.headers)


async def test_every_adapter_names_its_page_and_that_it_was_never_run_live():
    for name, adapter in ADAPTERS.items():
        assert (adapter.name, adapter.live) == (name, False)
        assert adapter.docs.startswith("https://")
        assert adapter.docs in type(adapter).__doc__
        assert adapter.base.startswith("https://")


async def test_a_currency_that_it_does_not_have_is_asked_of_nobody():
    async with serving(documented("kraken")) as server:
        for name in ("kraken", "bitstamp", "mempool"):
            said = await source(server, name).ask(("KES",))
            assert said.prices == said.faults == {}
    assert server.asked == []


async def test_mempools_minus_one_is_no_price():
    async with serving(documented("mempool")) as server:
        said = await source(server, "mempool").ask(("EUR", "GBP"))
    assert set(said.prices) == {"EUR"}


WRONG = {  # answers of another form, and whom they come from
    "an error": ("kraken", {"error": ["EGeneral:Too many requests"]}, "Too many requests"),
    "no result": ("kraken", {"error": []}, "result: is missing"),
    "a pair without c": ("kraken", {"error": [], "result": {"XXBTZEUR": {}}}, "c: is missing"),
    "an empty c": ("kraken", {"error": [], "result": {"XXBTZEUR": {"c": []}}}, "c: is not a list"),
    "a zero": ("kraken", {"error": [], "result": {"XXBTZEUR": {"c": ["0.0"]}}}, "not above zero"),
    "a minus": (
        "kraken",
        {"error": [], "result": {"XXBTZEUR": {"c": ["-61240"]}}},
        "EUR: '-61240'",
    ),
    "a list": ("kraken", [], "error: is missing"),
    "other money": ("coinbase", {"data": {"currency": "ETH", "rates": {"EUR": "1"}}}, "is not BTC"),
    "a number for rates": ("coinbase", {"data": {"currency": "BTC", "rates": 5}}, "not an object"),
    "absurd": (
        "coinbase",
        {"data": {"currency": "BTC", "rates": {"EUR": "99999999999999999999"}}},
        "no price of a bitcoin",
    ),
    "no time": ("bitstamp", {"last": "61240"}, "timestamp: is missing"),
    "a bad time": ("bitstamp", {"last": "61240", "timestamp": "soon"}, "time: is not in unix"),
    "a list for a price": ("blockchain", {"EUR": {"last": [1]}}, "EUR: [1] is not"),
    "true": ("mempool", {"time": NOW, "EUR": True}, "EUR: True is not"),
    "text in text": ("coingecko", {"bitcoin": "61240"}, "bitcoin: is not an object"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_an_answer_of_another_form_is_named(case):
    name, body, why = WRONG[case]
    async with serving(lambda path: body) as server:
        said = await source(server, name).ask(("EUR",))
    assert said.prices == {}
    assert why in said.faults["EUR"]
    assert server.asked


async def test_one_wrong_currency_spoils_no_other():
    body = json.loads(json.dumps(ANSWERS["coinbase"]["/v2/exchange-rates?currency=BTC"]))
    body["data"]["rates"]["EUR"] = "-1"
    async with serving(lambda path: body) as server:
        said = await source(server, "coinbase").ask(("EUR", "USD"))
    assert set(said.prices) == {"USD"}
    assert set(said.faults) == {"EUR"}


async def test_one_of_two_questions_that_fails_spoils_not_the_other():
    answers = ANSWERS["bitstamp"]

    def answer(path):
        return answers[path] if "eur" in path else (500, {}, b"")

    async with serving(answer) as server:
        said = await source(server, "bitstamp").ask(("EUR", "USD"))
    assert set(said.prices) == {"EUR"}
    assert said.faults["USD"] == "answers with HTTP status 500"


async def refused(answer, expected=Unreachable, **extra):
    async with serving(answer) as server:
        with pytest.raises(expected) as caught:
            await source(server, **extra).ask(("EUR",))
    assert server.asked, "the fault did not fire"
    return str(caught.value)


async def test_a_status_and_a_redirect_are_faults_and_not_followed():
    assert await refused(lambda path: (503, {}, b"")) == "answers with HTTP status 503"
    assert await refused(lambda path: (204, {}, b"")) == "answers with HTTP status 204"
    async with serving(documented("kraken")) as elsewhere:
        there = f"http://127.0.0.1:{elsewhere.port}/0/public/Ticker?pair=XXBTZUSD,XXBTZEUR"
        why = await refused(lambda path: (302, {"Location": there}, b""))
        assert why == "answers with HTTP status 302"
        assert elsewhere.asked == []


async def test_a_huge_body_is_dropped_at_the_bound():
    sent = 0

    async def flood(stream):
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        for _ in range(10_000):
            await stream.send_all(b" " * 65_536)
            sent += 65_536

    assert await refused(lambda path: flood, InvalidRecord) == f"answer: is over {MAX_BODY} bytes"
    assert MAX_BODY < sent < 10_000 * 65_536 // 10


async def test_a_body_at_the_bound_is_read():
    body = json.dumps(ANSWERS["coinbase"]["/v2/exchange-rates?currency=BTC"]).encode()
    async with serving(lambda path: body.ljust(MAX_BODY)) as server:
        assert (await source(server, "coinbase").ask(("EUR",))).prices


async def test_a_compressed_answer_is_refused_before_it_grows():
    why = await refused(
        lambda path: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\x00"), InvalidRecord
    )
    assert "compressed" in why


async def test_a_slow_server_costs_no_more_than_the_time_for_an_answer():
    started = trio.current_time()

    async def drip(stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            await stream.send_all(b"x")
            await trio.sleep(0.05)

    why = await refused(lambda path: drip, timeout_s=0.5)
    assert why == "has not answered within 0.5 s"
    assert 0.4 < trio.current_time() - started < 10


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 100,
        b"HTTP/1.1 200\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["nothing", "zeros", "half a head", "cut short", "bad length", "endless head", "bad chunk"],
)
async def test_a_server_that_speaks_no_http_is_a_fault_in_one_line(raw):
    async def speak(stream):
        await stream.send_all(raw)

    why = await refused(lambda path: speak)
    assert why.startswith("cannot be reached: ")
    assert "\n" not in why
    assert len(why) < 160


async def test_a_body_that_is_no_json_is_named():
    why = await refused(lambda path: b"<html>blocked</html>", InvalidRecord)
    assert why.startswith("JSON: cannot be read")


async def test_nobody_there():
    with socket.socket() as held:  # bound and not listening: nobody else gets the port
        held.bind(("127.0.0.1", 0))
        nobody = HttpPrices(ADAPTERS["kraken"], base=f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(Unreachable, match="cannot be reached"):
            await nobody.ask(("EUR",))


# ------------------------------------------------------------------ TLS


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    server_side, trusting = certificate(tmp_path, "localhost")
    async with serving(documented("kraken"), server_side) as server:
        base = f"https://localhost:{server.port}"
        with pytest.raises(Unreachable, match=r"(?i)certificate verify failed"):
            await HttpPrices(ADAPTERS["kraken"], base=base).ask(("USD", "EUR"))
        assert server.asked == []
        said = await HttpPrices(ADAPTERS["kraken"], base=base, trust=trusting).ask(("USD", "EUR"))
        assert said.prices["EUR"][0] == 61_240_100_000
        other = f"https://127.0.0.1:{server.port}"  # the right key under another name
        with pytest.raises(Unreachable, match=r"(?i)certificate verify failed"):
            await HttpPrices(ADAPTERS["kraken"], base=other, trust=trusting).ask(("EUR",))


# ------------------------------------------------------------------ proxies


@pytest.fixture
def lookups(monkeypatch):
    """Every name that this machine was asked to look up, by whatever library."""
    seen = []
    real = socket.getaddrinfo

    def noted(host, *args, **kwargs):
        seen.append(host)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    return seen


async def test_a_socks5_proxy_gets_the_name_and_this_machine_looks_nothing_up(tmp_path, lookups):
    server_side, trusting = certificate(tmp_path, "prices.invalid")
    async with (
        serving(documented("kraken"), server_side) as server,
        proxying(Socks(server.port)) as proxy,
    ):
        through = HttpPrices(
            ADAPTERS["kraken"],
            f"socks5://127.0.0.1:{proxy.port}",
            base="https://prices.invalid",
            trust=trusting,
        )
        said = await through.ask(("USD", "EUR"))
    assert said.prices["EUR"][0] == 61_240_100_000
    assert proxy.named == [(3, b"prices.invalid", 443)]  # 3: a domain name, not an address
    assert lookups, "no look-up was seen at all: the watch is broken"
    assert {h.decode() if isinstance(h, bytes) else h for h in lookups} == {"127.0.0.1"}


async def test_an_http_proxy_gets_the_name(tmp_path, lookups):
    server_side, trusting = certificate(tmp_path, "prices.invalid")
    async with (
        serving(documented("kraken"), server_side) as server,
        proxying(Forward(server.port)) as proxy,
    ):
        through = HttpPrices(
            ADAPTERS["kraken"],
            f"http://127.0.0.1:{proxy.port}",
            base="https://prices.invalid",
            trust=trusting,
        )
        assert (await through.ask(("USD", "EUR"))).prices
    assert proxy.named == [b"prices.invalid:443"]
    assert lookups, "no look-up was seen at all: the watch is broken"
    assert {h.decode() if isinstance(h, bytes) else h for h in lookups} == {"127.0.0.1"}


async def test_without_its_proxy_a_source_is_not_reached_another_way():
    async with serving(documented("kraken")) as server:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            for scheme in ("socks5", "http"):
                through = source(server, proxy=f"{scheme}://127.0.0.1:{held.getsockname()[1]}")
                with pytest.raises(Unreachable, match="cannot be reached through the proxy"):
                    await through.ask(("EUR",))
    assert server.asked == []


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\x05",
        b"\x05\xff",
        b"\x04\x00",
        b"HTTP/1.1 400 no\r\n\r\n",
        b"\x05\x00\x05\x01\x00\x01",
    ],
    ids=["silent", "half", "no method", "socks4", "http", "refusal at once"],
)
async def test_a_proxy_that_speaks_no_socks5_is_a_fault(words):
    class Bad:
        port = 0

        async def handle(self, stream):
            async with stream:
                await stream.receive_some(4096)
                await stream.send_all(words)

    async with proxying(Bad()) as proxy:
        through = HttpPrices(
            ADAPTERS["kraken"], f"socks5://127.0.0.1:{proxy.port}", base="http://prices.invalid"
        )
        with pytest.raises(NodeError) as caught:
            await through.ask(("EUR",))
    assert caught.value.exit_code == 69


async def test_the_environments_proxies_are_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with serving(documented("kraken")) as server:
        assert (await source(server).ask(("USD", "EUR"))).prices


def test_the_kit_makes_certificates_that_verify(tmp_path):
    assert all(isinstance(c, ssl.SSLContext) for c in price_kit.certificate(tmp_path, "x"))
