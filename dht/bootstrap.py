"""bootstrap_nodes.json: whom a newcomer asks first (docs/wire/dht.md, "Bootstrap").

    {"version": 1, "networks": {"main": [{"peer_id": "12D3…", "addrs": ["/dns4/…/tcp/…"]}]}}

A bad entry is named and skipped; a file that is not of this shape at all is an error.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from dht import endpoint
from dht.endpoint import Peer
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import check_node_id, node_id_of
from p2pnode.base.networks import NETWORKS, Network

VERSION: Final = 1
MAX_FILE_BYTES: Final = 256 * 1024
MAX_SEEDS: Final = 256


def seeds(text: str, network: Network) -> tuple[tuple[Peer, ...], tuple[str, ...]]:
    """Return the usable seeds of one network, and a sentence for each entry skipped.

    Raises InvalidRecord if the file as a whole cannot be used.
    """
    good: list[Peer] = []
    bad: list[str] = []
    for index, entry in enumerate(_networks(text).get(network.name, [])[:MAX_SEEDS]):
        try:
            good.append(_seed(entry, network))
        except InvalidRecord as error:
            bad.append(f"networks.{network.name}[{index}].{error}")
    return endpoint.merge_peers(good), tuple(bad)


def verify(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield (network, number of usable seeds, "") and (network, 0, complaint) for a whole file.

    Raises InvalidRecord if the file as a whole cannot be used.
    """
    for name, entries in _networks(text).items():
        if name not in NETWORKS:
            yield name, 0, f"networks.{name[:40]}: is none of {', '.join(NETWORKS)}"
            continue
        good, bad = seeds(text, NETWORKS[name])
        yield name, len(good), ""
        for complaint in bad:
            yield name, 0, complaint
        if len(entries) > MAX_SEEDS:
            yield name, 0, f"networks.{name}: has more than {MAX_SEEDS} entries"


def _networks(text: str) -> dict[str, list[Any]]:
    if len(text) > MAX_FILE_BYTES:
        raise InvalidRecord("file", f"is larger than {MAX_FILE_BYTES} characters")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRecord("file", "is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidRecord("file", "is not a JSON object")
    if type(value.get("version")) is not int or value["version"] != VERSION:
        raise InvalidRecord("version", f"is not {VERSION}")
    networks = value.get("networks")
    if not isinstance(networks, dict) or any(not isinstance(x, list) for x in networks.values()):
        raise InvalidRecord("networks", "is not an object of lists")
    return networks


def _seed(entry: object, network: Network) -> Peer:
    if not isinstance(entry, dict):
        raise InvalidRecord("entry", "is not an object")
    name, addrs = entry.get("peer_id"), entry.get("addrs")
    if not isinstance(name, str):
        raise InvalidRecord("peer_id", "is not text")
    if not isinstance(addrs, list) or not addrs:
        raise InvalidRecord("addrs", "is not a list of addresses")
    node_id = check_node_id("peer_id", node_id_of(name), network)
    return Peer(node_id, endpoint.dialable("addrs", tuple(addrs)))
