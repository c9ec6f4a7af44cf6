"""The frames of the book protocol, by which nodes level their books (docs/wire/book.md).

    [0, id, currency, low, high]    digest: what do you hold of [low, high), in parts?
    [1, id, currency, low, high]    fetch: send me the offers of [low, high)
    [2, id, parts]                  the answer to a digest (p2pnode.base.ranges)
    [3, id, until, done, offers]    a page of an answer to a fetch
    [4, id, error]                  a refusal, one sentence

Offers lie in order of their place: maker, then slot. A page holds all that its sender has
from the end of the page before, or `low`, up to `until`, and the next begins there; behind the
page that is `done` the asker goes on with another fetch, unless it reaches `high`. An empty
`high` means no upper end. Anything else is InvalidRecord, and the stream that carried it ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from orderbook import offer
from orderbook.currencies import check_currency
from p2pnode.base import ranges, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.ranges import MAX_PLACE_BYTES, Part

FRAME_LIMIT: Final = 64 * 1024
PAGE_BYTES: Final = 32 * 1024  # of offers in a page; one that is begun may be over it
MAX_PAGE_OFFERS: Final = 192
MAX_ERROR_BYTES: Final = 200
MAX_ID: Final = 2**32 - 1

DIGEST: Final = 0
FETCH: Final = 1


@dataclass(frozen=True, slots=True)
class Ask:
    """A question about [low, high) of a market; `what` is DIGEST or FETCH."""

    id: int
    what: int
    currency: str
    low: bytes = b""
    high: bytes = b""


@dataclass(frozen=True, slots=True)
class Digest:
    """The answer to a digest, as it travels: `parts_of` checks it against what was asked."""

    id: int
    told: Any


@dataclass(frozen=True, slots=True)
class Page:
    """Offers, unchecked, and up to where they are all that their sender has."""

    id: int
    until: bytes
    done: bool
    raws: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a question is not answered."""

    id: int
    error: str


Answer = Digest | Page | Refusal


def encode(message: Ask | Answer) -> bytes:
    """Return a frame's payload."""
    match message:
        case Ask(number, what, currency, low, high):
            return wire.pack([what, number, currency, low, high])
        case Digest(number, told):
            return wire.pack([2, number, told])
        case Page(number, until, done, raws):
            return wire.pack([3, number, until, int(done), raws])
        case Refusal(number, error):
            return wire.pack([4, number, wire.clipped(error, MAX_ERROR_BYTES) or "is refused"])


def ask_in(payload: bytes) -> Ask:
    """Parse a question. Raises InvalidRecord."""
    value = wire.unpack("frame", payload, limit=FRAME_LIMIT)
    what, number, currency, low, high = wire.fields("frame", value, 5)
    wire.within("frame.type", what, DIGEST, FETCH)
    wire.within("frame.id", number, 0, MAX_ID)
    check_currency("currency", currency)
    wire.blob("low", low, MAX_PLACE_BYTES)
    wire.blob("high", high, MAX_PLACE_BYTES)
    if high and high <= low:
        raise InvalidRecord("high", "is not above low")
    return Ask(number, what, currency, low, high)


def answer_in(payload: bytes) -> Answer:
    """Parse an answer; its offers and parts are still to be checked. Raises InvalidRecord."""
    value = wire.unpack("frame", payload, limit=FRAME_LIMIT)
    if len(value) < 3:
        raise InvalidRecord("frame", "has fewer than 3 fields")
    number = wire.within("frame.id", value[1], 0, MAX_ID)
    match wire.within("frame.type", value[0], 2, 4):
        case 2:
            return Digest(number, wire.fields("frame", value, 3)[2])
        case 3:
            _, _, until, done, raws = wire.fields("frame", value, 5)
            wire.blob("page.until", until, MAX_PLACE_BYTES)
            wire.within("page.done", done, 0, 1)
            for raw in wire.items("page.offers", raws, MAX_PAGE_OFFERS):
                wire.blob("page.offer", raw, offer.MAX_BYTES, low=1)
            return Page(number, until, bool(done), raws)
        case _:
            text = wire.fields("frame", value, 3)[2]
            return Refusal(number, wire.text("error", text, MAX_ERROR_BYTES, low=1))


def parts_of(told: Any, ask: Ask) -> list[Part]:
    """Return the parts that a digest was answered with. Raises InvalidRecord."""
    return ranges.parts_in(told, ask.low, ask.high)


def check_page(page: Page, low: bytes, high: bytes) -> None:
    """Check that a page goes on from `low` and stays below `high`. Raises InvalidRecord.

    A page that is not the last brings at least one offer, so that pages without end would
    have to be offers without end.
    """
    ended = page.until == high
    if not ended and (page.until <= low or (high and page.until > high)):
        raise InvalidRecord("page.until", "does not lie above the page before and below the end")
    if not page.done and (ended or not page.raws):
        raise InvalidRecord("page.done", "is 0 on a last page or an empty one")


def place_of(raw: bytes) -> bytes:
    """Return the place of an offer of our own book, which is valid."""
    body, _ = wire.unpack("offer", raw, limit=offer.MAX_BYTES)
    return bytes(body[3]) + bytes([body[4]])


def after(place: bytes) -> bytes:
    """Return the least place above `place`."""
    return place + b"\0"


def filled(raws: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the first of these that a page has room for, at least one of any."""
    room = PAGE_BYTES
    taken: list[bytes] = []
    for raw in raws[:MAX_PAGE_OFFERS]:
        if taken and room < len(raw):
            break
        room -= len(raw) + 3
        taken.append(raw)
    return tuple(taken)
