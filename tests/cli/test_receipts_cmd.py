"""trade receipts, trade history and proof verify of a receipt, against real nodes on a real chain."""

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import trio
from click.testing import CliRunner, Result
from orderbook_kit import NET, Market, worked
from receipt_steps import aged, proven, traded
from trade_kit import Rig, rig

from orderbook.offer import Offer, Side
from orderbook.shell_book import Book
from orderbook.shell_maker import Maker
from orderbook.shell_prices import Prices
from p2pnode.app import routes_market, routes_receipts
from p2pnode.app.api import Api
from p2pnode.app.commands.market import market
from p2pnode.app.commands.proof import proof
from p2pnode.app.commands.trade import trade
from p2pnode.app.events import Events
from p2pnode.base.clock import SystemRandomness
from p2pnode.base.identity import Identity

STRANGER = Identity.grind(NET, b"a stranger".ljust(32))


class Desk:
    """The taker's command line, and the market that his node sees."""

    def __init__(self, r: Rig, folder: Path, offers: Market, book: Book) -> None:
        self.r, self.folder, self.offers, self.book = r, folder, offers, book

    async def __call__(self, command: click.Group, *argv: str) -> Result:
        words = [*argv, "--data-dir", str(self.folder)]
        return await trio.to_thread.run_sync(
            lambda: CliRunner().invoke(command, words, catch_exceptions=False)
        )

    async def json(self, command: click.Group, *argv: str) -> list[dict[str, Any]]:
        result = await self(command, *argv, "--json")
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    async def offer(self, **more: Any) -> Offer:
        """Publish an offer of the maker's, and let his node know it."""
        values: dict[str, Any] = {
            "network": NET,
            "offer_id": b"offer".ljust(16),
            "maker": self.r["maker"].id,
            "side": Side.SELL,
            "currency": "EUR",
            "min_sat": 200_000,
            "max_sat": 2_000_000,
            "price": 60_000 * 10**6,
            "methods": ("CUSTOM",),
            "expires_at": self.r.clock.now() + 1500,
        }
        made = worked(Offer(**(values | more)))
        self.offers.records.append(made.to_wire(self.r["maker"].identity))
        self.r.offer(offer_hash=made.hash)
        await self.book.follow("EUR")
        return made


@asynccontextmanager
async def town(tmp_path: Path, **options: Any) -> Any:
    """A rig whose taker answers command lines."""
    async with rig(**options) as r, trio.open_nursery() as nursery:
        node, offers, stop = r["taker"], Market(), trio.Event()
        maker = Maker(node.identity, NET, r.clock, SystemRandomness(), node.database, offers)
        book = Book(maker, r.clock, offers)
        prices = Prices((), r.clock, SystemRandomness())
        sales = routes_receipts.sales(node.exchange.standing)
        served = [
            *routes_receipts.routes(node.exchange, book, r.clock),
            *routes_market.routes(book, prices, sales, r.clock),
        ]
        await nursery.start(Api(served, Events(node.database), node.database).serve, tmp_path, stop)
        yield Desk(r, tmp_path, offers, book)
        nursery.cancel_scope.cancel()


async def test_one_sees_what_ones_receipts_prove(tmp_path: Path) -> None:
    async with town(tmp_path) as desk:
        r = desk.r
        assert (await desk(trade, "receipts")).stderr.startswith("no receipts")
        trade_id = await traded(r)
        result = await desk(trade, "receipts")
        assert result.exit_code == 0
        head, row, why = result.stdout.splitlines()
        assert head.split() == ["TRADE", "FUNDED", "ROLE", "BTC", "FIAT", "WITH"]
        assert row.split()[0] == trade_id.hex()[:8]
        assert row.split()[2:4] == ["buyer", "0.00500000"]
        assert row.split()[-1] == r["maker"].id.hex()[:8]
        assert why.strip() == "weighs nothing: its counterparty is not 30 days old: 30 more"
        assert "0 trades with 0 counterparties weigh now" in result.stderr
        await aged(r)
        result = await desk(trade, "receipts")
        assert len(result.stdout.splitlines()) == 2
        assert "1 trade with 1 counterparty weigh" in result.stderr
        assert max(map(len, result.stdout.splitlines())) <= 80
        (told,) = await desk.json(trade, "receipts")
        assert told["partner"] == r["maker"].id.hex()
        assert (told["weighs"], told["why"], told["outcome"]) == (True, "", "released")


async def test_a_receipt_goes_to_a_file_that_anybody_checks(tmp_path: Path) -> None:
    async with town(tmp_path) as desk:
        r = desk.r
        trade_id = await traded(r)
        out = tmp_path / "receipt.json"
        result = await desk(trade, "receipts", trade_id.hex()[:8], "--out", str(out))
        assert result.exit_code == 0, result.stderr
        assert out.stat().st_mode & 0o777 == 0o600
        result = await desk(proof, "verify", str(out))
        assert result.exit_code == 0, result.stderr
        lines = result.stdout.splitlines()
        assert lines[0] == "verified   a trade of 0.00500000 BTC, on sandbox"
        assert lines[1] == f"seller     {r['maker'].id.hex()}"
        assert lines[2] == f"buyer      {r['taker'].id.hex()}"
        assert "ended by  RECEIVED" in lines[4]
        (told,) = await desk.json(proof, "verify", str(out))
        assert told["verified"] is True
        assert told["trade_id"] == trade_id.hex()
        value = json.loads(out.read_text())
        for bent, field in (
            (value | {"receipt": value["receipt"][:-2] + "00"}, "payout.branch"),
            (value | {"network": "regtest"}, "network"),
            (value | {"version": 2}, "version"),
            (value | {"more": 1}, "'more'"),
            ({k: v for k, v in value.items() if k != "receipt"}, "receipt"),
            (value | {"receipt": value["receipt"].upper()}, "receipt"),
        ):
            out.write_text(json.dumps(bent))
            result = await desk(proof, "verify", str(out))
            assert result.exit_code == 65, bent
            assert field in result.stderr
        out.write_text(json.dumps(value))
        before = await proven(r, "taker", trade_id)
        r.reorg(6, drop=[before.payout_txid])
        await r.synced()
        result = await desk(proof, "verify", str(out))
        assert result.exit_code == 65
        assert "payout.branch" in result.stderr or "payout.height" in result.stderr
        result = await desk(trade, "receipts", "--out", str(out))
        assert result.exit_code == 2


async def test_claims_stand_beside_what_is_proven(tmp_path: Path) -> None:
    async with town(tmp_path, strangers=("other",)) as desk:
        r = desk.r
        await traded(r, "maker", "other")
        first = r["maker"].exchange.standing.own()[0]
        offer = await desk.offer(said_trades=40, said_partners=30, said_since=1_600_000_000)
        whom = f"offer:{offer.offer_id.hex()[:8]}"
        result = await desk(trade, "history", whom)
        assert result.exit_code == 0, result.stderr
        assert "claims    40 trades with 30 counterparties, the first" in result.stdout
        assert "shown     1 receipt\n" in result.stdout
        assert "proven    no trade" in result.stdout
        assert "weighs nothing: its counterparty is not 30 days old" in result.stdout
        await aged(r)
        (told,) = await desk.json(trade, "history", r["maker"].id.hex(), "--kept")
        assert told["asked"] is False
        assert told["proven"]["trades"] == told["proven"]["partners"] == 1
        assert told["proven"]["first_at"] == first.funded_at
        (told,) = await desk.json(trade, "history", r["maker"].id.hex()[:12])  # of the book
        assert told["asked"] is True
        assert told["claimed"]["offer_id"] == offer.offer_id.hex()
        assert told["faults"] == []
        assert told["receipts"][0]["partner"] == r["other"].id.hex()


async def test_who_does_not_answer_has_what_is_known_of_him(tmp_path: Path) -> None:
    async with town(tmp_path) as desk:
        r = desk.r
        await traded(r)
        (told,) = await desk.json(trade, "history", r["maker"].id.hex())
        assert "shown only to who names a current offer" in told["why"]
        assert told["proven"]["trades"] == 1  # with ourselves
        await r.stop("maker")
        result = await desk(trade, "history", r["maker"].id.hex()[:8])
        assert result.exit_code == 0
        assert "no answer the peer is away" in result.stdout
        assert "proven    1 trade with 1 counterparty" in result.stdout
        (told,) = await desk.json(trade, "history", STRANGER.node_id.hex())
        assert told["proven"] == {"trades": 0, "partners": 0, "first_at": 0, "days": 0}
        assert (await desk(trade, "history", "0123456789")).exit_code == 70
        assert (await desk(trade, "history", "xyz")).exit_code == 65


async def test_the_market_counts_each_receipt_once(tmp_path: Path) -> None:
    async with town(tmp_path, strangers=("other",), sats=(3_000_000, 3_000_000)) as desk:
        r = desk.r
        await traded(r)
        await traded(r, "maker", "other")
        offer = await desk.offer()
        await desk.json(trade, "history", f"offer:{offer.offer_id.hex()}")
        (told,) = await desk.json(market, "stats")
        assert (told["currency"], told["trades"], told["amount_sat"]) == ("EUR", 2, 1_000_000)
        assert told["price_low"] == told["price_high"] > 0


async def test_what_is_no_closed_trade_has_no_receipt(tmp_path: Path) -> None:
    async with town(tmp_path) as desk:
        assert (await desk(trade, "receipts", "7f3a91")).exit_code == 70
        assert (await desk(trade, "receipts", "nothex")).exit_code == 65
        trade_id = await desk.r.take()
        result = await desk(trade, "receipts", trade_id.hex())
        assert result.exit_code == 70
        assert "has given no receipt" in result.stderr
