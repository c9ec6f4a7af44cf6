"""The real clock and the system's randomness, behind their ports."""

import secrets
import time


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> int:
        """Return unix seconds."""
        return int(time.time())


class SystemRandomness:
    """The operating system's generator."""

    def bytes(self, count: int) -> bytes:
        """Return `count` unpredictable bytes."""
        return secrets.token_bytes(count)
