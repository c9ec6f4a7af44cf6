"""What happened in this node, numbered for ever: `/v1/events?after=ID` resumes where it broke.

`publish` joins the transaction that it is called in (the shell law), so an event exists
exactly if the step that it tells of was committed. The table is bounded; a listener that
has missed more than it holds is told so by an event "gap".
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import trio

from p2pnode.base.clock import SystemClock
from p2pnode.base.ports import Clock
from p2pnode.base.store import Database

ROOM: Final = "events"
SCRIPTS: Final = (
    """
    CREATE TABLE event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        data TEXT NOT NULL
    ) STRICT
    """,
)
KEPT: Final = 10_000
PAGE: Final = 200


class Events:
    """The table of events and those who wait for the next one. One thread, one trio run."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        database.migrate(ROOM, SCRIPTS)
        self._database = database
        self._clock = clock or SystemClock()
        self._news = trio.Event()

    def publish(self, kind: str, **data: Any) -> int:
        """Add an event and return its id. `data` is what JSON can write, secrets never."""
        with self._database.transaction():
            self._database.run(
                "INSERT INTO event (at, kind, data) VALUES (?, ?, ?)",
                self._clock.now(),
                kind,
                json.dumps(data, ensure_ascii=False),
            )
            number = self.last()
            self._database.run("DELETE FROM event WHERE id <= ?", number - KEPT)
        news, self._news = self._news, trio.Event()
        news.set()  # listeners run after this step, and so after its commit
        return number

    def last(self) -> int:
        """Return the newest id, 0 before the first event."""
        row = self._database.one("SELECT max(id) AS id FROM event")
        return int(row["id"] or 0) if row else 0

    def after(self, number: int, limit: int = PAGE) -> list[dict[str, Any]]:
        """Return up to `limit` events with an id above `number`, oldest first."""
        rows = self._database.all(
            "SELECT * FROM event WHERE id > ? ORDER BY id LIMIT ?", number, limit
        )
        return [
            json.loads(row["data"]) | {"id": row["id"], "at": row["at"], "event": row["kind"]}
            for row in rows
        ]

    async def stream(self, number: int) -> AsyncIterator[dict[str, Any]]:
        """Yield every event above `number`, then each new one. Never ends by itself."""
        oldest = self._database.one("SELECT min(id) AS id, min(at) AS at FROM event")
        if oldest and oldest["id"] and number < oldest["id"] - 1:
            number = oldest["id"] - 1
            yield {"id": number, "at": oldest["at"], "event": "gap"}
        while True:
            news = self._news
            page = self.after(number)
            for event in page:
                number = event["id"]
                yield event
            if not page:
                await news.wait()
