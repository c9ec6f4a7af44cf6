"""One transaction a step: all of it or nothing; a newer file is never opened."""

import sqlite3

import pytest

from p2pnode.base.errors import StorageFault
from p2pnode.base.store import Database

FIRST = "CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT"
SECOND = "ALTER TABLE thing ADD COLUMN extra TEXT; INSERT INTO thing (name) VALUES ('second')"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "node.sqlite"


def names(database):
    return [row["name"] for row in database.all("SELECT name FROM thing ORDER BY id")]


def test_a_step_that_raises_leaves_nothing(path):
    database = Database(path)
    database.migrate("room", [FIRST])
    with pytest.raises(RuntimeError), database.transaction():
        database.run("INSERT INTO thing (name) VALUES ('a')")
        with database.transaction():
            database.run("INSERT INTO thing (name) VALUES ('b')")
        raise RuntimeError
    assert names(database) == []
    with database.transaction():
        database.run("INSERT INTO thing (name) VALUES ('c')")
    assert names(Database(path)) == ["c"]


def test_the_file_is_private_and_durable(path):
    database = Database(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert database.one("PRAGMA journal_mode")[0] == "wal"
    assert database.one("PRAGMA synchronous")[0] == 2
    assert database.one("PRAGMA foreign_keys")[0] == 1


def test_migrations_go_forward_once_with_a_copy_aside(path):
    Database(path).migrate("room", [FIRST])
    database = Database(path)
    database.migrate("room", [FIRST, SECOND])
    database.migrate("room", [FIRST, SECOND])
    assert names(database) == ["second"]
    old = sqlite3.connect(path.with_suffix(".before-room-2"))
    assert old.execute("SELECT count(*) FROM thing").fetchone() == (0,)
    old.close()


def test_a_newer_file_is_refused_untouched(path):
    Database(path).migrate("room", [FIRST, SECOND])
    with pytest.raises(StorageFault, match="newer"):
        Database(path).migrate("room", [FIRST])


def test_a_failing_migration_leaves_the_old_version(path):
    database = Database(path)
    database.migrate("room", [FIRST])
    with pytest.raises(StorageFault):
        database.migrate("room", [FIRST, "INSERT INTO thing (name) VALUES ('x'); NONSENSE"])
    assert names(database) == []
    database.migrate("room", [FIRST, SECOND])
    assert names(database) == ["second"]


def test_a_full_disk_is_a_sentence_and_changes_nothing(path):
    database = Database(path)
    database.migrate("room", [FIRST])
    database.run(f"PRAGMA max_page_count = {database.one('PRAGMA page_count')[0] + 2}")
    with pytest.raises(StorageFault, match="full"), database.transaction():
        for i in range(1000):
            database.run("INSERT INTO thing (name) VALUES (?)", f"{i}" * 100)
    assert names(database) == []


def test_garbage_is_not_a_database(path):
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageFault):
        Database(path)
    assert path.read_bytes().startswith(b"not a database")
