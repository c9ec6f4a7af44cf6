"""`/v1/net`: the peers this node talks to, and what it knows of the network."""

from typing import Any

from dht.shell_node import Dht
from p2pnode.app.routes import Call, Route
from p2pnode.base.identity import peer_id
from p2pnode.base.ports import Streams


def routes(dht: Dht, streams: Streams) -> list[Route]:
    """Return the routes over a running DHT and its transport."""

    async def peers(_call: Call) -> list[dict[str, Any]]:
        return [
            {
                "node_id": peer.node_id.hex(),
                "peer_id": peer_id(peer.node_id),
                "addrs": list(peer.addrs),
            }
            for peer in dht.peers()
        ]

    async def counts(_call: Call) -> dict[str, Any]:
        return {
            "node_id": streams.node_id.hex(),
            "peer_id": peer_id(streams.node_id),
            "addrs": list(streams.addrs()),
            **dht.view(),
        }

    return [
        Route("GET", "/v1/net/peers", peers, summary="The contacts in the routing table."),
        Route("GET", "/v1/net/dht", counts, summary="Where we listen, and what the DHT holds."),
    ]
