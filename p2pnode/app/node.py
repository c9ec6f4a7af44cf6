"""The node: every room of the house composed in one nursery, around one database."""

import os
from collections.abc import Callable
from typing import Any

import trio

from p2pnode import __version__
from p2pnode.app.api import Api
from p2pnode.app.config import Settings
from p2pnode.app.events import Events
from p2pnode.app.routes import Call, Route
from p2pnode.base import identity
from p2pnode.base.keystore import Keystore
from p2pnode.base.store import Database

DATABASE = "node.sqlite"


async def run_node(
    settings: Settings,
    keystore: Keystore,
    ready: Callable[[dict[str, Any]], None],
    stop: trio.Event,
) -> None:
    """Serve until `stop`; `ready` is called once, when everything answers."""
    database = Database(settings.data_dir / DATABASE)
    try:
        events = Events(database)
        node_id = keystore.identity.node_id

        def describe() -> dict[str, Any]:
            return {
                "node_id": node_id.hex(),
                "peer_id": identity.peer_id(node_id),
                "network": settings.network.name,
                "addrs": [],
                "pid": os.getpid(),
                "version": __version__,
                "last_event": events.last(),
            }

        api = Api(house_routes(describe, stop), events, database)
        async with trio.open_nursery() as nursery:
            await nursery.start(api.serve, settings.data_dir, stop)
            events.publish("started")
            ready(describe())
    finally:
        database.close()


def house_routes(describe: Callable[[], dict[str, Any]], stop: trio.Event) -> list[Route]:
    """Return the routes that every node has."""

    async def status(call: Call) -> dict[str, Any]:
        return describe()

    async def halt(call: Call) -> dict[str, Any]:
        stop.set()
        return {"stopping": True, "pid": os.getpid()}

    return [
        Route("GET", "/v1/status", status, summary="who this node is and how it stands"),
        Route("POST", "/v1/stop", halt, summary="end the node"),
    ]
