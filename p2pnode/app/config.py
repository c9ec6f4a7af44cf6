"""What a node is told: `config.toml` in its data directory, overridden by the command line.

    network = "sandbox"
    listen = "/ip4/127.0.0.1/tcp/0"
    electrum = "127.0.0.1:50001"
    bootstrap = ["/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo…"]

Read strictly: an unknown name, or a value of another form, is an error that names it.
"""

import ipaddress
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from p2pnode.base import identity
from p2pnode.base.errors import InvalidRecord, Misconfigured, StorageFault
from p2pnode.base.networks import Network, network

FILE: Final = "config.toml"
MAX_FILE: Final = 64 * 1024
MAX_BOOTSTRAP: Final = 64
DEFAULT_LISTEN: Final = "/ip4/127.0.0.1/tcp/0"
KNOWN: Final = ("network", "listen", "electrum", "bootstrap")
_ENDPOINT: Final = re.compile(
    r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})", re.ASCII
)
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9.-]{1,253}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One node's settings, checked."""

    data_dir: Path
    network: Network
    listen: str = DEFAULT_LISTEN  # multiaddr; port 0 takes a free one
    electrum: str = ""  # HOST:PORT; empty: no chain was named
    bootstrap: tuple[str, ...] = ()  # multiaddrs that end in /p2p/PEER_ID
    seed: bool = False

    def __post_init__(self) -> None:
        check_address("listen", self.listen, peer=False)
        if self.electrum:
            endpoint("electrum", self.electrum)
        if len(self.bootstrap) > MAX_BOOTSTRAP:
            raise Misconfigured(f"bootstrap: is over {MAX_BOOTSTRAP} entries", field="bootstrap")
        for address in self.bootstrap:
            check_address("bootstrap", address, peer=True)

    @classmethod
    def load(cls, data_dir: Path, **overrides: Any) -> Self:
        """Read the file; what is not None in `overrides` wins. Raises Misconfigured."""
        found = _read(data_dir / FILE)
        said = {name: value for name, value in overrides.items() if value is not None}
        named = said.pop("network", None)
        name = found.pop("network", named)
        if name is None:
            raise Misconfigured(f"network: {FILE} does not name one", field="network")
        if named is not None and named != name:
            raise Misconfigured(
                f"network: the node in {data_dir} is of {name}, not of {named}", field="network"
            )
        return cls(data_dir=data_dir, network=network(name), **(found | said))

    def save(self) -> None:
        """Write the file. Raises StorageFault."""
        lines = [
            "# p2pnode; the command line's options win over this file (docs/cli.md)",
            f"network = {_quoted(self.network.name)}",
            f"listen = {_quoted(self.listen)}",
        ]
        if self.electrum:
            lines.append(f"electrum = {_quoted(self.electrum)}")
        lines.append(f"bootstrap = [{', '.join(map(_quoted, self.bootstrap))}]")
        path = self.data_dir / FILE
        beside = path.with_suffix(".new")
        try:
            beside.write_text("\n".join(lines) + "\n")
            beside.chmod(0o600)
            beside.replace(path)
        except OSError as error:
            raise StorageFault(f"{FILE}: {error.strerror}") from None


def check_tradable(net: Network) -> None:
    """Refuse the public networks: this version could not trade there. Raises Misconfigured."""
    if not net.bondless:
        raise Misconfigured(
            f"network: {net.name} is not served yet: its arbiters must be bonded, which this "
            "version cannot do; it trades on sandbox and regtest",
            field="network",
        )


def endpoint(field: str, text: str) -> tuple[str, int]:
    """Read HOST:PORT or [IPV6]:PORT. Raises Misconfigured."""
    match = _ENDPOINT.fullmatch(text)
    port = int(match[3]) if match else 0
    if match is None or not 0 < port < 65536:
        raise Misconfigured(f"{field}: {text[:80]!r} is not HOST:PORT", field=field)
    return match[1] or match[2], port


def check_address(field: str, text: str, *, peer: bool) -> str:
    """Return a TCP multiaddr, with `peer` one that names whom. Raises Misconfigured."""
    form = "/ip4/127.0.0.1/tcp/4001" + ("/p2p/12D3Koo…" if peer else "")
    fault = Misconfigured(f"{field}: {text[:200]!r} is not like {form}", field=field)
    parts = text.split("/")
    if len(parts) != (7 if peer else 5) or parts[0] or parts[3] != "tcp":
        raise fault
    kind, host, port = parts[1], parts[2], parts[4]
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536):
        raise fault
    try:
        if kind == "ip4":
            ipaddress.IPv4Address(host)
        elif kind == "ip6":
            ipaddress.IPv6Address(host)
        elif not (peer and kind in ("dns", "dns4", "dns6") and _HOST_NAME.fullmatch(host)):
            raise fault
        if peer:
            if parts[5] != "p2p":
                raise fault
            identity.node_id_of(parts[6])
    except (ValueError, InvalidRecord):
        raise fault from None
    return text


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageFault(f"{path.name}: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise Misconfigured(f"{FILE}: is over {MAX_FILE} bytes")
    try:
        found = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Misconfigured(f"{FILE}: {str(error)[:200]}") from None
    return _check_types(found)


def _check_types(found: Mapping[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in found.items():
        if name not in KNOWN:
            raise Misconfigured(
                f"{FILE}: {name[:40]!r} is none of {', '.join(KNOWN)}", field=name[:40]
            )
        if name == "bootstrap":
            if type(value) is not list or any(type(v) is not str for v in value):
                raise Misconfigured(f"{FILE}: {name} is not a list of texts", field=name)
            checked[name] = tuple(value)
        elif type(value) is not str:
            raise Misconfigured(f"{FILE}: {name} is not text", field=name)
        else:
            checked[name] = value
    return checked


def _quoted(text: str) -> str:
    return json.dumps(text)  # a TOML basic string, for the checked characters above
