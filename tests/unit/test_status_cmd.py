"""What `p2pnode status` says of the markets that a node follows."""

from p2pnode.app.commands.status import _market_lines


def test_a_market_shows_its_sources_and_names_who_withholds():
    markets = {
        "CHF": {"sources": 0, "servers": [], "omitting": {}},
        "EUR": {"sources": 7, "servers": ["ab" * 32], "omitting": {"cd" * 32: 3}},
    }
    assert _market_lines(markets, 8) == [
        "market    CHF from 0 sources",
        "market    EUR from 7 sources; cdcdcdcdcdcdcdcd withholds 3 offers that others hold",
    ]
    assert _market_lines({}, 8) == []
