"""docs/storage.md names every table and file there is; what the pages name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("p2pnode", "dht", "orderbook", "escrow")
PAGES = ("storage.md", "threats.md", "cli.md")
STORAGE = (ROOT / "docs/storage.md").read_text()


def sources() -> dict[Path, str]:
    return {path: path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")}


def test_every_table_of_the_database_is_on_the_page_and_no_other() -> None:
    made = r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)"
    built = {name for text in sources().values() for name in re.findall(made, text)}
    assert set(re.findall(r"^\| [^|]*\| `(\w+)` \|", STORAGE, re.MULTILINE)) == built


def test_every_room_that_migrates_is_on_the_page() -> None:
    rooms = set()
    for text in sources().values():
        rooms |= set(re.findall(r"\.migrate\(\"(\w+)\"", text))
        if ".migrate(ROOM" in text:
            rooms |= set(re.findall(r"^ROOM: Final = \"(\w+)\"", text, re.MULTILINE))
    assert set(re.findall(r"^\| `(\w+)` \| `\w+` \|", STORAGE, re.MULTILINE)) == rooms


@pytest.mark.parametrize("page", PAGES)
def test_the_files_and_tests_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    everything = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py")]
    everything += [path.relative_to(ROOT) for path in sources()]
    names = {str(path) for path in everything} | {path.name for path in everything}
    modules = {f"{path.parent.name}.{path.stem}" for path in everything}
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert name in names, f"{page} names {name}"
    for name in re.findall(r"`((?:dht|orderbook|escrow|base|app)\.\w+)`", text):
        assert name in modules, f"{page} names {name}"
