"""What a node is told: `config.toml` in its data directory, overridden by the command line.

    network = "sandbox"
    listen = "/ip4/127.0.0.1/tcp/0"
    electrum = "127.0.0.1:50001"
    bootstrap = ["/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo…"]
    mdns = "auto"                                   # on, off; auto: unless on loopback
    metrics = "127.0.0.1:9464"                      # Prometheus; nobody asks without it
    exempt_subnets = ["127.0.0.0/8", "::1/128"]     # no cap counts these addresses
    prices = ["kraken", "bitstamp", "file:prices.json"]  # who says what bitcoin costs
    proxy = "socks5://127.0.0.1:9050"               # through which those sources are asked
    countries = ["DE", "AT"]                        # where you can pay and be paid; none: anywhere
    languages = ["de", "en"]                        # that you can trade in; none: any
    caps = { high = 1000000, ZELLE = 100000 }       # satoshi a trade: lower than the node's

Read strictly: an unknown name, or a value of another form, is an error that names it.
"""

import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from p2pnode.base import identity
from p2pnode.base.errors import InvalidRecord, Misconfigured, StorageFault
from p2pnode.base.networks import Network, network

FILE: Final = "config.toml"
MAX_FILE: Final = 64 * 1024
MAX_BOOTSTRAP: Final = 64
DEFAULT_LISTEN: Final = "/ip4/127.0.0.1/tcp/0"
MDNS: Final = ("auto", "on", "off")
MAX_EXEMPT: Final = 16
EXEMPT: Final = ("127.0.0.0/8", "::1/128")
WIDEST: Final = {4: 8, 6: 7}  # bits that a network without caps names at least
MAX_PRICES: Final = 16
MAX_PATH: Final = 1024
MAX_CODES: Final = 64
PRICES_FILE: Final = "file:prices.json"  # what a private network reads if nothing is named
_TEXTS: Final = ("network", "listen", "electrum", "mdns", "metrics", "proxy")
_LISTS: Final = ("bootstrap", "exempt_subnets", "prices", "countries", "languages")
KNOWN: Final = (*_TEXTS, *_LISTS, "caps")
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
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
    mdns: str = "auto"  # look for peers on the LAN
    metrics: str = ""  # IP:PORT for Prometheus; empty: none are served
    exempt_subnets: tuple[str, ...] = EXEMPT  # networks of one's own machines
    prices: tuple[str, ...] = ()  # names of price sources, or file:PATH
    proxy: str = ""  # socks5://HOST:PORT or http://HOST:PORT; empty: sources are asked directly
    countries: tuple[str, ...] = ()  # ISO 3166-1 alpha-2: what listed offers are judged by
    languages: tuple[str, ...] = ()  # ISO 639-1: the same
    caps: Mapping[str, int] = field(default_factory=dict)  # by risk class or method, satoshi
    seed: bool = False

    def __post_init__(self) -> None:
        check_address("listen", self.listen, peer=False)
        if self.electrum:
            endpoint("electrum", self.electrum)
        if len(self.bootstrap) > MAX_BOOTSTRAP:
            raise Misconfigured(f"bootstrap: is over {MAX_BOOTSTRAP} entries", field="bootstrap")
        for address in self.bootstrap:
            check_address("bootstrap", address, peer=True)
        if self.mdns not in MDNS:
            raise Misconfigured(f"mdns: is none of {', '.join(MDNS)}", field="mdns")
        if self.mdns == "on" and not self.listen.startswith("/ip4/"):
            raise Misconfigured("mdns: needs a listen address of /ip4", field="mdns")
        if self.metrics:
            metrics_address("metrics", self.metrics)
        self.exempt()
        check_prices("prices", self.prices)
        if self.proxy:
            proxy_address("proxy", self.proxy)
        check_codes("countries", self.countries, str.isupper, "DE")
        check_codes("languages", self.languages, str.islower, "de")
        _check_caps(self.caps)

    @property
    def price_sources(self) -> tuple[str, ...]:
        """Return whom to ask for prices: on a private network at least a local file."""
        private = self.network.name in ("sandbox", "regtest")
        return self.prices or ((PRICES_FILE,) if private else ())

    def exempt(self) -> tuple[IPNetwork, ...]:
        """Return the networks whose addresses no cap counts. Raises Misconfigured."""
        if len(self.exempt_subnets) > MAX_EXEMPT:
            raise Misconfigured(
                f"exempt_subnets: is over {MAX_EXEMPT} networks", field="exempt_subnets"
            )
        return tuple(subnet("exempt_subnets", text) for text in self.exempt_subnets)

    @property
    def looks_around(self) -> bool:
        """Tell whether peers on the LAN are looked for: by default not on loopback."""
        kind, host = self.listen.split("/")[1:3]
        if self.mdns == "auto":
            return kind == "ip4" and not ipaddress.IPv4Address(host).is_loopback
        return self.mdns == "on"

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
        lines.append(f"bootstrap = {_list(self.bootstrap)}")
        if self.mdns != "auto":
            lines.append(f"mdns = {_quoted(self.mdns)}")
        if self.metrics:
            lines.append(f"metrics = {_quoted(self.metrics)}")
        if self.exempt_subnets != EXEMPT:
            lines.append(f"exempt_subnets = {_list(self.exempt_subnets)}")
        if self.prices:
            lines.append(f"prices = {_list(self.prices)}")
        if self.proxy:
            lines.append(f"proxy = {_quoted(self.proxy)}")
        if self.countries:
            lines.append(f"countries = {_list(self.countries)}")
        if self.languages:
            lines.append(f"languages = {_list(self.languages)}")
        if self.caps:
            said = ", ".join(f"{name} = {sat}" for name, sat in self.caps.items())
            lines.append(f"caps = {{ {said} }}")
        path = self.data_dir / FILE
        beside = path.with_suffix(".new")
        try:
            beside.write_text("\n".join(lines) + "\n")
            beside.chmod(0o600)
            beside.replace(path)
        except OSError as error:
            raise StorageFault(f"{FILE}: {error.strerror}") from None


def check_tradable(net: Network) -> None:
    """Refuse the main network: one server's view of the chain is no ground for money.

    Raises Misconfigured.
    """
    if net.name == "main":
        raise Misconfigured(
            "network: main is not served yet: this version sees a chain through one Electrum "
            "server and does not recompute its difficulty; it trades on testnet4, signet, "
            "sandbox and regtest",
            field="network",
        )


def endpoint(field: str, text: str) -> tuple[str, int]:
    """Read HOST:PORT or [IPV6]:PORT. Raises Misconfigured."""
    match = _ENDPOINT.fullmatch(text)
    port = int(match[3]) if match else 0
    if match is None or not 0 < port < 65536:
        raise Misconfigured(f"{field}: {text[:80]!r} is not HOST:PORT", field=field)
    return match[1] or match[2], port


def metrics_address(field: str, text: str) -> tuple[str, int]:
    """Read IP:PORT, where port 0 takes a free one. Raises Misconfigured.

    A name is refused: it could come to mean an address that anybody reaches.
    """
    fault = Misconfigured(
        f"{field}: {text[:80]!r} is not IP:PORT, such as 127.0.0.1:9464", field=field
    )
    match = _ENDPOINT.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise fault
    try:
        return str(ipaddress.ip_address(match[1] or match[2])), int(match[3])
    except ValueError:
        raise fault from None


def check_prices(field: str, names: tuple[str, ...]) -> None:
    """Check the names of price sources. Raises Misconfigured saying which there are."""
    if not names:
        return
    if len(names) > MAX_PRICES:
        raise Misconfigured(f"{field}: is over {MAX_PRICES} sources", field=field)
    if len(set(names)) != len(names):
        raise Misconfigured(f"{field}: names a source twice", field=field)
    from orderbook.price_adapters import ADAPTERS

    for name in names:
        path = name.removeprefix("file:")
        if path != name:
            if not (0 < len(path) <= MAX_PATH and path.isprintable()):
                raise Misconfigured(f"{field}: {name[:80]!r} is not file:PATH", field=field)
        elif name not in ADAPTERS:
            known = ", ".join(ADAPTERS)
            raise Misconfigured(
                f"{field}: {name[:40]!r} is none of {known} and file:PATH", field=field
            )


def check_codes(
    field: str, codes: tuple[str, ...], cased: Callable[[str], bool], such: str
) -> None:
    """Check a list of two-letter codes; the node knows which there are. Raises Misconfigured."""
    if len(codes) > MAX_CODES:
        raise Misconfigured(f"{field}: is over {MAX_CODES} codes", field=field)
    for code in codes:
        if not (len(code) == 2 and code.isascii() and code.isalpha() and cased(code)):
            raise Misconfigured(f"{field}: {code[:40]!r} is no code such as {such}", field=field)


def _check_caps(caps: Mapping[str, int]) -> None:
    if caps:
        from orderbook.limits import check_caps  # reads the whole registry of methods

        try:
            check_caps(caps)
        except InvalidRecord as error:
            raise Misconfigured(str(error), field="caps") from None


def proxy_address(field: str, text: str) -> str:
    """Check socks5://HOST:PORT or http://HOST:PORT. Raises Misconfigured."""
    scheme, _, rest = text.partition("://")
    if scheme not in ("socks5", "http"):
        raise Misconfigured(
            f"{field}: {text[:80]!r} is not like socks5://127.0.0.1:9050 or http://HOST:PORT",
            field=field,
        )
    endpoint(field, rest)
    return text


def subnet(field: str, text: str) -> IPNetwork:
    """Read a network, such as 10.0.0.0/8. Raises Misconfigured."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise Misconfigured(
            f"{field}: {text[:80]!r} is not a network such as 10.0.0.0/8", field=field
        ) from None
    if found.prefixlen < WIDEST[found.version]:
        raise Misconfigured(
            f"{field}: {found} is wider than /{WIDEST[found.version]}: no cap would hold",
            field=field,
        )
    return found


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
        if name in _LISTS:
            if type(value) is not list or any(type(v) is not str for v in value):
                raise Misconfigured(f"{FILE}: {name} is not a list of texts", field=name)
            checked[name] = tuple(value)
        elif name == "caps":
            if type(value) is not dict:
                raise Misconfigured(f"{FILE}: caps is not a table of satoshi", field=name)
            checked[name] = value
        elif type(value) is not str:
            raise Misconfigured(f"{FILE}: {name} is not text", field=name)
        else:
            checked[name] = value
    return checked


def _list(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    return json.dumps(text)  # a TOML basic string, for the checked characters above
