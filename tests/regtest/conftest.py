"""A real bitcoind in regtest and a real ElectrumX on it, once a session.

`make test` unpacks them (.bitcoind, .exv); P2PNODE_BITCOIND and P2PNODE_ELECTRUMX_PYTHON
name others. Without them the tests skip; with CI set that is a failure.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from regtest_kit import Bitcoind, bitcoind_program, electrum_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.regtest)


@pytest.fixture(scope="session")
def bitcoind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bitcoind]:
    """A regtest node with its own data, a funded wallet "miner" and 110 blocks."""
    with Bitcoind(bitcoind_program(), tmp_path_factory.mktemp("bitcoind")) as node:
        yield node


@pytest.fixture(scope="session")
def electrumx(bitcoind: Bitcoind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Electrum server on the node; yields "127.0.0.1:PORT"."""
    with electrum_server(bitcoind, tmp_path_factory.mktemp("electrumx")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bitcoind, str]]:
    """A node whose clock is the tests' (two years ago at first), and its Electrum server."""
    folder, clock = tmp_path_factory.mktemp("core"), int(time.time()) - 730 * 86_400
    with (
        Bitcoind(bitcoind_program(), folder, clock) as node,
        electrum_server(node, tmp_path_factory.mktemp("core-electrumx")) as endpoint,
    ):
        yield node, endpoint
