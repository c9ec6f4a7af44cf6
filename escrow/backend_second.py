"""The escrow's address by an implementation that shares nothing with ours: bitcoinlib.

Its own keys, scripts and bech32, so a bug must be made twice. It signs nothing here. On
import it makes a settings directory and opens a log in it; so it is loaded when first
needed, with that directory a temporary one that is gone before the import returns.
It accepts keys off the curve, so these are checked first.
"""

import functools
import os
import tempfile
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from escrow.contract import KIND_BACKUP, Contract
from escrow.keys import check_point

_NETWORKS: Final = {
    "main": "bitcoin",
    "testnet4": "testnet",
    "signet": "signet",
    "regtest": "regtest",
}
_lock = threading.Lock()


@functools.cache
def _library() -> Any:
    with tempfile.TemporaryDirectory(prefix="bitcoinlib-") as folder:
        before = os.environ.get("BCL_DATA_DIR")
        os.environ["BCL_DATA_DIR"] = folder
        Path(folder, "config.ini").write_text("[logs]\nenable_bitcoinlib_logging = false\n")
        try:
            with warnings.catch_warnings():  # its database layer is of another decade
                warnings.simplefilter("ignore")
                import bitcoinlib.keys
                import bitcoinlib.scripts
        finally:
            del os.environ["BCL_DATA_DIR"]
            if before is not None:
                os.environ["BCL_DATA_DIR"] = before
        return bitcoinlib


def warm() -> None:
    """Load the library now, which takes half a second, and not at the first signature."""
    with _lock:
        _library()


def escrow_address(contract: Contract) -> str:
    """Return the escrow's address as bitcoinlib derives it from the contract's keys."""
    with _lock:  # the import touches the environment
        library = _library()
    network = _NETWORKS[contract.network.bitcoin]
    points = (("key_b", contract.key_b), ("key_s", contract.key_s), ("key_a", contract.key_a))
    script = _two_of_three(library, points, network)
    if contract.escrow_kind == KIND_BACKUP:
        later = (("key_b2", contract.key_b2), ("key_s2", contract.key_s2))
        script = _with_backup(
            library,
            script,
            _two_of_three(library, (*later, ("key_a2", contract.key_a2)), network),
            contract.n,
        )
    address = library.keys.Address(
        script.serialize(), script_type="p2wsh", encoding="bech32", network=network
    )
    return str(address.address)


def _two_of_three(library: Any, named: Iterable[tuple[str, bytes]], network: str) -> Any:
    points = sorted(check_point(name, key) for name, key in named)
    keys = [library.keys.Key(key.hex(), network=network) for key in points]
    return library.scripts.Script(keys=keys, sigs_required=2, script_types=["multisig"])


def _with_backup(library: Any, now: Any, later: Any, age: int) -> Any:
    """Return `now`, or after `age` blocks `later`, by the library's own names of opcodes.

    bitcoinlib knows no miniscript, so the frame of the two multisigs is written here from
    BIP 379's table (or_d, and_v, v:multi, older). bdk's compiler is asked too, before it signs.
    """
    op, number = library.scripts.op, library.scripts.encode_num(age)
    after = [*later.commands[:-1], op.op_checkmultisigverify, number, op.op_checksequenceverify]
    return library.scripts.Script(
        commands=[*now.commands, op.op_ifdup, op.op_notif, *after, op.op_endif]
    )
