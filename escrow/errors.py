"""The one error that the trade's machines have of their own."""

from p2pnode.base.errors import PeerFault


class NotYet(PeerFault):
    """Our chain view or the message before it lags: the peer sends it again later."""


class DataLost(PeerFault):
    """A peer says that he has seen a message of ours that we do not have: let him show it."""


class NumberUsed(PeerFault):
    """The sender has signed another message of this number, `raw`: he has lost data, or lies."""

    def __init__(self, message: str, raw: bytes) -> None:
        super().__init__(message, field="seq")
        self.raw = raw
