"""libtorrent's DHT (BEP 5 and 44): a session a node, immutable items."""

import asyncio
import os
import sys
import time

import libtorrent

from benchmarks.peers import measure

SETTLE_S = 8.0  # what the sessions need to find each other
NEIGHBOURS = 6  # each is told at the start
LONE = {
    "alert_mask": libtorrent.alert.category_t.dht_notification,
    "enable_dht": True,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "dht_bootstrap_nodes": "",
    # All nodes are on loopback, where none can have the id that its address asks for.
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False,
    "dht_enforce_node_id": False,
    "dht_privacy_lookups": False,
    # Nor may one address be throttled for speaking for 64.
    "dht_upload_rate_limit": 10_000_000,
    "dht_block_ratelimit": 100_000,
    "dht_block_timeout": 1,
}


def address(number, ports):
    """Give every node an address of its own: a table takes one node an address."""
    return f"127.0.1.{1 + number}", ports[number]


class Libtorrent(measure.Datagrams):
    news = "has no push"
    at_once = 1

    def __init__(self, sessions, ports, state):
        super().__init__(ports, state)
        self.sessions = sessions

    def alert(self, session, kind, seconds):
        """Return the next alert of a kind, or None when time is up."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            session.wait_for_alert(max(1, int(1000 * left)))
            for alert in session.pop_alerts():
                if isinstance(alert, kind):
                    return alert
        return None

    async def put(self, node, value):
        session = self.sessions[node]
        session.pop_alerts()
        start = time.perf_counter()
        key = session.dht_put_immutable_item(value)
        done = self.alert(session, libtorrent.dht_put_alert, measure.GET_LIMIT_S)
        return time.perf_counter() - start, key if done and done.num_success else None

    async def get(self, node, key, value):
        session = self.sessions[node]
        session.pop_alerts()
        start = time.perf_counter()
        session.dht_get_immutable_item(key)
        got = self.alert(session, libtorrent.dht_immutable_item_alert, measure.GET_LIMIT_S)
        return time.perf_counter() - start, bool(got and got.target == key)


async def main():
    state = measure.State(sys.argv[1])
    before = measure.resident()
    ports, sessions = measure.free_ports(measure.NODES), []
    for number in range(len(ports)):
        host, port = address(number, ports)
        sessions.append(libtorrent.session({**LONE, "listen_interfaces": f"{host}:{port}"}))
    await asyncio.sleep(1)  # until the sessions' own threads listen
    for number, session in enumerate(sessions):
        for step in range(1, 1 + NEIGHBOURS):
            session.add_dht_node(address((number + step * step) % len(sessions), ports))
    await asyncio.sleep(SETTLE_S)
    idle = (measure.resident() - before) / len(sessions)
    await measure.Measurement(Libtorrent(sessions, ports, state), len(sessions), idle).run()
    os._exit(0)  # the sessions' destructors would wait for the trackers they never had


if __name__ == "__main__":
    asyncio.run(main())
