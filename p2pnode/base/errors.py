"""Every error this node raises on purpose; anything else is a bug and must crash.

The question a caller asks is "whose fault, and may I retry?", so that is how the tree
is cut. `exit_code` is what the command line returns (docs/cli.md, "Exit codes"); `code`
is its stable name in JSON. The text is one sentence, fit for a user, free of secrets.
"""

from typing import ClassVar


class NodeError(Exception):
    """Root of the tree; `field` names what was wrong, or is empty."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UsageFault(NodeError):
    """The caller's words are off: a missing or malformed argument."""

    exit_code = 2
    code = "usage"


class InvalidRecord(NodeError):
    """Bytes that are not a valid record of their kind. Never retry; drop them."""

    exit_code = 65
    code = "bad_data"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}", field=field)


class Elsewhere(InvalidRecord):
    """Signed, and good perhaps by the bounds of another release: whoever brings it is no liar."""


class UnknownName(Elsewhere):
    """Names what this version does not know: a payment method, a currency, an escrow kind.

    A newer node may know it, so it is not used here, and nobody is blamed for it.
    """


class Unreachable(NodeError):
    """No peer or chain server answered in time. Safe to retry."""

    exit_code = 69
    code = "unavailable"


class LocalFault(NodeError):
    """Our own caller asked for something that is refused in this state."""

    exit_code = 70
    code = "refused"


class StorageFault(NodeError):
    """The disk is full, read-only or damaged, or the file is of a newer version."""

    exit_code = 74
    code = "storage"


class Locked(NodeError):
    """Another daemon holds this data directory, or the wanted thing is locked."""

    exit_code = 75
    code = "locked"


class PeerFault(NodeError):
    """The peer broke the protocol. Nothing of ours changed."""

    exit_code = 76
    code = "peer_fault"


class WrongPassphrase(NodeError):
    """The keystore does not open with this passphrase, or was tampered with."""

    exit_code = 77
    code = "passphrase"


class Misconfigured(NodeError):
    """The configuration cannot work: wrong network, no seed, no chain server named."""

    exit_code = 78
    code = "configuration"


class NotFound(LocalFault):
    """No such trade, offer, account or case here, or the prefix fits several."""

    code = "not_found"


class SecondOpinionDiffers(NodeError):
    """Two implementations disagree about bytes of ours: nothing was signed or sent."""

    exit_code = 70
    code = "second_opinion"
