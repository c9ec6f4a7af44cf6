"""One field of a payment method: what may stand in it, and in which one spelling.

Two gates. `enter` takes what a user typed, spells it canonically and has libraries judge
it: checksums, countries, number plans. `read` takes what came from a peer or from one's
own file and asks for shape alone (alphabet and bounds), so that two versions of a library
never differ about an account that a contract commits to; what the libraries of here think
of it is a mark beside it (`mark`), for the person who pays.

A field of several kinds takes a value of the first kind whose shape it has.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

# Characters that show nothing, or that no two programs show alike (Unicode 15, categories
# Cf, Co and Zs without the plain space, fillers, selectors and tags). A set that stays.
_INVISIBLE: Final = re.compile(
    "[\u00a0\u00ad\u034f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200d\u202f"
    "\u205f-\u2065\u206a-\u206f\u2800\u3000\u3164\ue000-\uf8ff\ufe00-\ufe0f\uffa0"
    "\ufff0-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)
MISTYPED: Final = "is mistyped: its check digits do not match"
_SPACES: Final = re.compile(r"[ \u00a0\u2000-\u200a\u202f\u205f\u3000]+")


class Unfit(Exception):
    """Why a value is none of its kind, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a field says beyond its kind. `country`: what the field of that role holds."""

    regions: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    country: str = ""

    @property
    def places(self) -> str:
        """Name the countries that a number must be of, by their number if they are many."""
        few = len(self.regions) <= 6
        return ", ".join(self.regions) if few else f"the {len(self.regions)} countries it is for"


def only(pattern: str) -> re.Pattern[str]:
    """Return a pattern of ASCII letters and digits."""
    return re.compile(pattern, re.ASCII)


def dense(text: str) -> str:
    """Return text without spaces, in capitals."""
    return text.replace(" ", "").upper()


def bare_digits(text: str) -> str:
    """Return text without spaces and hyphens."""
    return text.replace(" ", "").replace("-", "")


def _as_is(text: str, rules: Rules) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value. `what` may name {low}, {high} and {options}.

    `tidy` spells a typed value canonically without judging it; `judge` returns the final
    spelling or raises Unfit; low..high bound the canonical form in UTF-8 bytes; a field may
    set bounds of its own if `bounded`.
    """

    what: str
    low: int
    high: int
    shape: re.Pattern[str]
    tidy: Callable[[str], str]
    judge: Callable[[str, Rules], str] = _as_is
    bounded: bool = False

    def told(self, low: int, high: int, options: tuple[str, ...] = ()) -> str:
        """Return what it is, with the bounds of the field."""
        return self.what.format(
            span=_span(low, high), low=low, high=high, options=", ".join(options)
        )


@dataclass(frozen=True, slots=True)
class MethodField:
    """One field of a method's accounts: text of low..high UTF-8 bytes, 0 if it may be empty."""

    name: str
    kinds: tuple[str, ...]
    low: int
    high: int
    help: str
    example: str
    optional: bool
    options: tuple[str, ...]
    regions: tuple[str, ...]
    country_from: str  # the field that names the country whose rules hold, or empty
    parts: tuple[tuple[Kind, int, int], ...]

    @property
    def what(self) -> str:
        """Say what it takes, bounds included."""
        *most, last = (kind.told(a, b, self.options) for kind, a, b in self.parts)
        return f"{', '.join(most)} or {last}" if most else last

    def enter(self, value: object, country: str = "") -> str:
        """Return the canonical form of what a user typed. Raises InvalidRecord."""
        typed = spelled(self.name, value, max(1, self.low), self.high, 2 * self.high + 64)
        if not typed:
            if self.optional:
                return ""
            raise InvalidRecord(self.name, f"is empty: it takes {self.what}")
        rules, misses = self._rules(country), []
        for kind, low, high in self.parts:
            tidy = kind.tidy(typed)
            size = len(tidy.encode())
            if not low <= size <= high or not kind.shape.fullmatch(tidy):
                misses.append((size, low, high))
                continue
            try:
                return kind.judge(tidy, rules)
            except Unfit as error:
                raise InvalidRecord(self.name, str(error)) from None
        if len(misses) == 1 and not misses[0][1] <= misses[0][0] <= misses[0][2]:
            raise InvalidRecord(self.name, f"is {_bytes(misses[0][0])}: it takes {self.what}")
        raise InvalidRecord(self.name, f"is not {self.what}")

    def read(self, value: object) -> str:
        """Return a canonical value that came from elsewhere. Raises InvalidRecord."""
        text = wire.text(self.name, value, self.high, low=0 if self.optional else self.low)
        if not text:
            return text
        _visible(self.name, text)
        if not any(
            low <= len(text.encode()) <= high and kind.shape.fullmatch(text)
            for kind, low, high in self.parts
        ):
            raise InvalidRecord(self.name, f"is not {self.what}")
        return text

    def mark(self, value: str, country: str = "") -> str:
        """Return what the libraries hold against a value that `read` took, or empty text."""
        try:
            known = self.enter(value, country)
        except InvalidRecord as error:
            return str(error).removeprefix(f"{self.name}: ")
        return "" if known == value else f"is usually written {known}"

    def _rules(self, country: str) -> Rules:
        return Rules(self.regions, self.options, country)


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _bytes(size: int) -> str:
    return f"{size} byte" if size == 1 else f"{size} bytes"


def spelled(field: str, value: object, low: int, high: int, most: int) -> str:
    """Return typed text without outer and doubled spaces, composed (NFC).

    Raises InvalidRecord for text over `most` bytes as typed, for controls, direction marks
    and characters that show nothing; `low` and `high` are the bounds that it names.
    """
    size = len(value.encode(errors="replace")) if type(value) is str else 0
    if size > most:
        raise InvalidRecord(field, f"is {_bytes(size)} of text, not {_span(low, high)}")
    if type(value) is not str:
        raise InvalidRecord(field, "is not text: put it between double quotes")
    text = _SPACES.sub(" ", wire.text(field, value, most)).strip(" ")
    _visible(field, text)
    return unicodedata.normalize("NFC", text)


def _visible(field: str, text: str) -> None:
    hidden = _INVISIBLE.search(text)
    if hidden:
        raise InvalidRecord(
            field, f"holds U+{ord(hidden[0]):04X}, a character that shows nothing: take it out"
        )
