"""Idempotency keys: what moves money is done once, however often it is asked.

A key is stored before the work starts and holds the request's hash, then the answer.

    same key, same request, answered      the same answer, nothing is done again
    same key, same request, not answered  refused: it is running, or was cut off by a restart
    same key, another request             refused

A request refused before anything was done frees its key. Any other error is kept as the
answer: a payment may have left before the server went silent.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import LocalFault, UsageFault
from p2pnode.base.ports import Clock
from p2pnode.base.store import Database

ROOM: Final = "api"
SCRIPTS: Final = (
    """
    CREATE TABLE once (
        key TEXT PRIMARY KEY,
        request BLOB NOT NULL,
        run TEXT NOT NULL,
        at INTEGER NOT NULL,
        status INTEGER,
        answer TEXT
    ) STRICT
    """,
)
KEPT: Final = 10_000
_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)


def request_hash(method: str, path: str, query: str, body: Mapping[str, Any]) -> bytes:
    """Return what two requests share exactly if they ask for the same thing."""
    plain = json.dumps([method, path, query, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode(errors="surrogatepass")).digest()


class Once:
    """The table of keys."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        database.migrate(ROOM, SCRIPTS)
        self._database = database
        self._clock = clock or SystemClock()
        self._run = secrets.token_hex(8)  # tells this process's unfinished work from an older's

    def begin(self, key: str, request: bytes) -> tuple[int, str] | None:
        """Claim `key`; return the stored status and answer if it was answered already.

        Raises UsageFault for a malformed key or one of another request, LocalFault for
        work that has not been answered.
        """
        if not _KEY.fullmatch(key):
            raise UsageFault(
                "Idempotency-Key: is missing or not 1 to 64 letters, digits and _.:-",
                field="Idempotency-Key",
            )
        with self._database.transaction():
            row = self._database.one("SELECT * FROM once WHERE key = ?", key)
            if row is None:
                self._database.run(
                    "INSERT INTO once (key, request, run, at) VALUES (?, ?, ?, ?)",
                    key,
                    request,
                    self._run,
                    self._clock.now(),
                )
                self._trim()
                return None
        if row["request"] != request:
            raise UsageFault(
                "Idempotency-Key: was used for another request", field="Idempotency-Key"
            )
        if row["status"] is not None:
            return int(row["status"]), str(row["answer"])
        why = (
            "is still being worked on"
            if row["run"] == self._run
            else "was cut off by a restart: look whether it took effect, then use a new key"
        )
        raise LocalFault(f"Idempotency-Key: this request {why}", field="Idempotency-Key")

    def finish(self, key: str, status: int, answer: str) -> None:
        """Store the answer of a claimed key."""
        self._database.run(
            "UPDATE once SET status = ?, answer = ? WHERE key = ?", status, answer, key
        )

    def forget(self, key: str) -> None:
        """Free a claimed key: nothing was done under it."""
        self._database.run("DELETE FROM once WHERE key = ?", key)

    def _trim(self) -> None:
        self._database.run(
            "DELETE FROM once WHERE status IS NOT NULL AND rowid <= "
            "(SELECT max(rowid) FROM once) - ?",
            KEPT,
        )
