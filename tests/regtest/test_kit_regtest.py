"""Without a bitcoind these tests skip with one line; in CI they fail."""

from pathlib import Path

import pytest
import regtest_kit


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_without_a_bitcoind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(regtest_kit, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("P2PNODE_BITCOIND", raising=False)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="bitcoind"):
        regtest_kit.bitcoind_program()


def test_words_become_the_root_key_of_bip_32() -> None:
    words = "abandon " * 11 + "about"
    key = (
        "tprv8ZgxMBicQKsPe5YMU9gHen4Ez3ApihUfykaqUorj9t6FDqy3nP6eoXiAo2ssvpAjoLroQxHqr3R5nE3a5dU3D"
        "HTjTgJDd7zrbniJr6nrCzd"
    )
    assert regtest_kit.master_key(words) == key
