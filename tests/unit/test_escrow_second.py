"""bitcoinlib's address equals ours, and loading it leaves no trace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from escrow_tx_kit import contract, h, trade_key

from escrow.backend_second import escrow_address
from escrow.contract import KIND_2OF3, KIND_BACKUP
from escrow.script import escrow_address as ours
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("trade", range(3))
def test_the_same_address_on_every_network(name: str, trade: int) -> None:
    network = NETWORKS[name]
    seen = set()
    for kind, roles in ((KIND_2OF3, ("B", "S")), (KIND_BACKUP, ("B", "S", "B2", "S2"))):
        keys = {
            f"key_{r.lower()}": trade_key(r, h(f"trade {trade}"), network).public for r in roles
        }
        for days in (1, 60):  # n of 2 bytes at both ends of its range
            made = contract(network=network, escrow_kind=kind, period_s=86_400 * days, **keys)
            assert escrow_address(made) == ours(made)
            seen.add(ours(made))
    assert len(seen) == 3  # in the plain kind the period makes no address


def test_it_does_not_follow_our_contract_blindly() -> None:
    assert escrow_address(contract(key_b=trade_key("B", h("x")).public)) != ours(contract())


def test_a_key_off_the_curve_is_refused_before_the_library_sees_it() -> None:
    off_curve = b"\x02" + bytes(31) + b"\x05"
    with pytest.raises(InvalidRecord, match="key_s"):
        escrow_address(contract(key_s=off_curve))
    with pytest.raises(InvalidRecord, match="key_a2"):
        escrow_address(contract(escrow_kind=KIND_BACKUP, key_a2=off_curve))


def test_loading_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """In a process of its own, with an empty home and an empty temporary directory."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    code = (
        "import sys, os; from escrow_tx_kit import contract\n"
        "from escrow.backend_second import escrow_address\n"
        "assert not any(m.startswith('bitcoinlib') for m in sys.modules)\n"
        "print(escrow_address(contract())); assert 'BCL_DATA_DIR' not in os.environ"
    )
    root = Path(__file__).parents[2]
    env = {
        **{k: v for k, v in os.environ.items() if k != "BCL_DATA_DIR"},
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=home, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, ours(contract()), "")
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []
