"""A stranger's text as a reader may trust his eyes with it.

What cannot be seen, and letters of another script that stand among Latin ones and look like
them (Unicode TR39, confusables), are written as escapes, and a sentence says so.
"""

import re
import unicodedata
from typing import Final

MAX_NAMED: Final = 4  # letters that a remark names
_WORD: Final = re.compile(r"\S+")


def seen(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text with escapes, and a remark for each kind of trouble in it."""
    if text.isascii() and text.isprintable():
        return text, ()
    hidden, alike = set[str](), set[str]()

    def word(found: re.Match[str]) -> str:
        disguised = _disguised(found[0])
        alike.update(disguised)
        return "".join(_escape(c) if c in disguised else c for c in found[0])

    def character(c: str) -> str:
        if c.isprintable():
            return c
        if unicodedata.category(c) == "Zs":
            return " "  # a space of another width
        hidden.add(c)
        return _escape(c)

    shown = "".join(map(character, _WORD.sub(word, text)))
    remarks = []
    if hidden:
        remarks.append(f"holds characters that cannot be seen: {_named(hidden)}")
    if alike:
        remarks.append(f"holds letters of another script that look like Latin: {_named(alike)}")
    return shown, tuple(remarks)


def _disguised(word: str) -> set[str]:
    """Return the letters in a word with Latin ones that are none and look like one."""
    if word.isascii():
        return set()
    from confusable_homoglyphs.categories import alias
    from confusable_homoglyphs.confusables import is_confusable

    if not any(c.isalpha() and alias(c) == "LATIN" for c in word):
        return set()
    found = is_confusable(word, greedy=True, preferred_aliases=["latin"]) or []
    return {one["character"] for one in found if not one["character"].isascii()}


def _escape(c: str) -> str:
    return c.encode("unicode_escape").decode()


def _named(characters: set[str]) -> str:
    names = [f"{_escape(c)} ({unicodedata.name(c, 'no name').lower()})" for c in sorted(characters)]
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")
