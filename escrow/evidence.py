"""Evidence: a file in parts, from a trader to an arbiter, put together again and re-hashed.

    file ──split──▶ EVIDENCE parts of 64 KiB ──any order, twice or never──▶ join ──▶ file

A file is named by its SHA-256; what its parts make either has that hash or is not shown. Its
type is told by its first bytes, never by its name, and its name is only ever a label: whoever
writes it to a disk asks `export_name`. Pure; the one declared error is InvalidRecord. Bounds
and layout: docs/wire.md, "EVIDENCE".
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from escrow.fields import Fields, b32, checked, integer, words
from escrow.messages import Kind, Message
from escrow.payloads import MAX_EVIDENCE, MAX_PARTS, PART_BYTES, Evidence
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

MAX_FILES: Final = 8  # of one trader in one trade
MAX_NAME: Final = 128  # bytes
MAX_SHOWN: Final = 2 * MAX_FILES * MAX_PARTS  # messages of one trader: each part may come twice
NO_HEAD: Final = wire.pack(())  # stands for the head of a part whose row is damaged

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"%PDF-", "pdf"),
)
_STEM: Final = 60  # characters of a name that an exported file keeps


@dataclass(frozen=True, kw_only=True)
class Head(Fields):
    """An EVIDENCE part without its data."""

    file_hash: bytes = checked(b32)
    name: str = checked(words(MAX_NAME, 1))
    size: int = checked(integer(1, MAX_EVIDENCE))
    part: int = checked(integer(0, MAX_PARTS - 1))

    @property
    def parts(self) -> int:
        """How many parts the file has."""
        return -(-self.size // PART_BYTES)


@dataclass(frozen=True, slots=True)
class Shown:
    """One file as far as its parts are here."""

    file_hash: bytes
    name: str
    size: int
    parts: int
    here: frozenset[int]

    @property
    def complete(self) -> bool:
        """Tell whether every part is here."""
        return len(self.here) == self.parts


# ------------------------------------------------------------------ making parts


def file_type(data: bytes) -> str:
    """Return png, jpg, pdf or txt, by the bytes alone. Raises InvalidRecord naming `file`."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    try:
        text = data.decode().removeprefix("\ufeff")
        for line in text.split("\n"):
            wire.text("file", line.removesuffix("\r").replace("\t", " "), MAX_EVIDENCE)
    except (UnicodeDecodeError, InvalidRecord):
        raise InvalidRecord("file", "is neither PNG, JPEG, PDF nor plain UTF-8 text") from None
    return "txt"


def clean_name(name: str) -> str:
    """Return the last part of a path as a label: no folders, no controls, 128 bytes."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return wire.clipped(last, MAX_NAME).strip() or "file"


def split(name: str, data: bytes) -> tuple[Evidence, ...]:
    """Cut a file into its parts. Raises InvalidRecord naming `file`: empty, too big, of no type."""
    if not 0 < len(data) <= MAX_EVIDENCE:
        raise InvalidRecord("file", f"is not 1 to {MAX_EVIDENCE} bytes")
    file_type(data)
    digest, label = hashlib.sha256(data).digest(), clean_name(name)
    return tuple(
        Evidence(
            file_hash=digest,
            name=label,
            size=len(data),
            part=number,
            data=data[start : start + PART_BYTES],
        )
        for number, start in enumerate(range(0, len(data), PART_BYTES))
    )


# ------------------------------------------------------------------ hearing parts


def head_of(message: Message) -> Head | None:
    """Return the head of an EVIDENCE message, whole or cut; None for one whose row is damaged.

    Raises InvalidRecord for another message.
    """
    if message.kind is not Kind.EVIDENCE:
        raise InvalidRecord("kind", "is not EVIDENCE")
    if not message.cut_hash:
        return head(Evidence.from_wire(message.payload))
    if message.payload == NO_HEAD:
        return None
    return Head.from_array("head", wire.unpack("head", message.payload, limit=1024))


def head(part: Evidence) -> Head:
    """Return a part's head."""
    return Head(file_hash=part.file_hash, name=part.name, size=part.size, part=part.part)


def heads(messages: Iterable[Message], sender: bytes) -> tuple[Head, ...]:
    """Return the readable heads of what one trader has shown, in the order it came."""
    mine = (m for m in messages if m.kind is Kind.EVIDENCE and m.sender == sender)
    return tuple(h for h in map(head_of, mine) if h is not None)


def check_part(part: Head, before: Iterable[Head]) -> None:
    """Check a part against those that its sender has shown before. Raises InvalidRecord.

    The same part may come twice (a sender who has lost data shows it anew). A hash has one
    size and one name; there are at most MAX_FILES hashes and MAX_SHOWN parts.
    """
    known = tuple(before)
    if len(known) >= MAX_SHOWN:
        raise InvalidRecord("part", f"is beyond the {MAX_SHOWN} that a trader may show")
    files = {h.file_hash: h for h in known}
    first = files.get(part.file_hash)
    if first is None:
        if len(files) >= MAX_FILES:
            raise InvalidRecord("file_hash", f"names more than {MAX_FILES} files")
        return
    for name in ("size", "name"):
        if getattr(first, name) != getattr(part, name):
            raise InvalidRecord(name, "is not what an earlier part of this file says")


def check_more(parts: Iterable[Evidence], before: Iterable[Head]) -> None:
    """Check parts that are to be shown, one after the other. Raises InvalidRecord."""
    known = list(before)
    for part in map(head, parts):
        check_part(part, known)
        known.append(part)


# ------------------------------------------------------------------ putting together


def files(found: Iterable[Head]) -> tuple[Shown, ...]:
    """Return the files that heads speak of, in the order of their first parts."""
    first: dict[bytes, Head] = {}
    here: dict[bytes, set[int]] = {}
    for h in found:
        first.setdefault(h.file_hash, h)
        if h.part < first[h.file_hash].parts:
            here.setdefault(h.file_hash, set()).add(h.part)
    return tuple(
        Shown(h.file_hash, h.name, h.size, h.parts, frozenset(here.get(digest, ())))
        for digest, h in first.items()
    )


def join(file_hash: bytes, parts: Iterable[Evidence]) -> bytes:
    """Return the file of that hash. Raises InvalidRecord: parts lack, or make another file.

    Parts may come in any order and more than once: the first of each number counts.
    """
    wanted = [p for p in parts if p.file_hash == file_hash]
    if not wanted:
        raise InvalidRecord("file_hash", "is no file that was shown")
    first = wanted[0]
    count, data = head(first).parts, dict[int, bytes]()
    for part in wanted:
        if (part.size, part.name) == (first.size, first.name):
            data.setdefault(part.part, part.data)
    lacking = [str(n) for n in range(count) if n not in data]
    if lacking:
        raise InvalidRecord("part", f"of {count} lack {', '.join(lacking)}")
    whole = b"".join(data[n] for n in range(count))
    if hashlib.sha256(whole).digest() != file_hash:
        raise InvalidRecord("file_hash", "is not what its parts make: the file is not shown")
    return whole


def export_name(file_hash: bytes, name: str, kind: str) -> str:
    """Return the name under which a file may be written: hash, letters and digits, our ending.

    Nothing of a peer's name but ASCII letters, digits, `-` and `_` is left: no folder, no dot,
    no second ending, no name that a shell or a system reads in its own way.
    """
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", name, flags=re.ASCII)[:_STEM].strip("_-") or "file"
    return f"{file_hash.hex()[:12]}-{stem}.{kind}"
