"""The configuration is read strictly; the command line wins; public networks are refused."""

import pytest

from p2pnode.app import config
from p2pnode.app.config import Settings
from p2pnode.base.errors import Misconfigured
from p2pnode.base.networks import NETWORKS

PEER = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWR3Z8BDf9fJoWV4ZRQGJBTne54SHSBPUttQbxgYCwt2yE"


def write(folder, text):
    (folder / "config.toml").write_text(text)
    return folder


def test_what_is_saved_is_what_is_loaded(tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        network=NETWORKS["regtest"],
        listen="/ip6/::1/tcp/9",
        electrum="[::1]:50001",
        bootstrap=(PEER, PEER.replace("ip4/127.0.0.1", "dns4/seed.example")),
        mdns="off",
        metrics="[::1]:9464",
        exempt_subnets=("10.0.0.0/8", "fd00::/8"),
        prices=("kraken", "file:prices.json"),
        proxy="socks5://[::1]:9050",
        caps={"high": 1_000_000, "ZELLE": 0},
    )
    settings.save()
    assert Settings.load(tmp_path) == settings
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600


def test_the_command_line_wins_but_not_over_the_network(tmp_path):
    write(tmp_path, 'network = "sandbox"\nelectrum = "127.0.0.1:1"\n')
    assert Settings.load(tmp_path, electrum="127.0.0.1:2", listen=None).electrum == "127.0.0.1:2"
    assert Settings.load(tmp_path, network="sandbox").network.name == "sandbox"
    with pytest.raises(Misconfigured, match=r"sandbox.*regtest"):
        Settings.load(tmp_path, network="regtest")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('network = "sandbox"\nelectrun = "x"\n', "electrun"),
        ('network = "moon"\n', "network"),
        ("", "network"),
        ('network = "sandbox"\nlisten = 5\n', "listen"),
        ('network = "sandbox"\nbootstrap = "x"\n', "bootstrap"),
        ('network = "sandbox"\nbootstrap = [1]\n', "bootstrap"),
        ('network = "sandbox"\ncaps = 5\n', "caps"),
        ('network = "sandbox"\ncaps = { SEPA = "1" }\n', "caps"),
        ('network = "sandbox"\ncaps = { SEPA = 0.05 }\n', "caps"),
        ('network = "sandbox"\ncaps = { BARTER = 1 }\n', "caps"),
        ('network = "sandbox"\ncaps = { high = 6250001 }\n', "caps"),
        ('network = "sandbox"\nmdns = "maybe"\n', "mdns"),
        ('network = "sandbox"\nmdns = true\n', "mdns"),
        ('network = "sandbox"\nlisten = "/ip6/::1/tcp/0"\nmdns = "on"\n', "mdns"),
        ('network = "sandbox"\nmetrics = 9464\n', "metrics"),
        ('network = "sandbox"\nmetrics = "localhost:9464"\n', "metrics"),
        ('network = "sandbox"\nmetrics = "9464"\n', "metrics"),
        ('network = "sandbox"\nmetrics = "127.0.0.1:65536"\n', "metrics"),
        ('network = "sandbox"\nexempt_subnets = "10.0.0.0/8"\n', "exempt_subnets"),
        ('network = "sandbox"\nexempt_subnets = [8]\n', "exempt_subnets"),
        ('network = "sandbox"\nexempt_subnets = ["10.0.0.1/8"]\n', "exempt_subnets"),
        ('network = "sandbox"\nexempt_subnets = ["0.0.0.0/0"]\n', "exempt_subnets"),
        ('network = "sandbox"\nexempt_subnets = ["::/0"]\n', "exempt_subnets"),
        (f'network = "sandbox"\nexempt_subnets = {["10.0.0.0/8"] * 17}\n', "exempt_subnets"),
        ('network = "sandbox"\nprices = "kraken"\n', "prices"),
        ('network = "sandbox"\nprices = ["krakn"]\n', "prices"),
        ('network = "sandbox"\nprices = ["file:"]\n', "prices"),
        ('network = "sandbox"\nprices = ["file:a\\u001bb"]\n', "prices"),
        ('network = "sandbox"\nprices = ["https://api.kraken.com"]\n', "prices"),
        ('network = "sandbox"\nprices = ["kraken", "kraken"]\n', "prices"),
        (f'network = "sandbox"\nprices = {[f"file:{i}" for i in range(17)]}\n', "prices"),
        ('network = "sandbox"\nproxy = "127.0.0.1:9050"\n', "proxy"),
        ('network = "sandbox"\nproxy = "socks4://127.0.0.1:9050"\n', "proxy"),
        ('network = "sandbox"\nproxy = "socks5://user:word@127.0.0.1:9050"\n', "proxy"),
        ('network = "sandbox"\nproxy = "socks5://127.0.0.1"\n', "proxy"),
        ('network = "sandbox"\nproxy = "http://127.0.0.1:8080/x"\n', "proxy"),
        ("network = ", ""),
        ("\xff", ""),
        ("#" * 70_000, ""),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, text, field):
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(Misconfigured) as caught:
        Settings.load(tmp_path)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "host", "host:0", "host:65536", "host:x", "a b:1", "::1:5", "http://x:1"]
)
def test_a_bad_endpoint(text):
    with pytest.raises(Misconfigured) as caught:
        config.endpoint("electrum", text)
    assert caught.value.field == "electrum"


def test_endpoints():
    assert config.endpoint("e", "127.0.0.1:50001") == ("127.0.0.1", 50001)
    assert config.endpoint("e", "[::1]:5") == ("::1", 5)


def test_metrics_addresses():
    assert config.metrics_address("m", "127.0.0.1:0") == ("127.0.0.1", 0)
    assert config.metrics_address("m", "[::1]:9464") == ("::1", 9464)
    assert config.metrics_address("m", "192.0.2.7:9464") == ("192.0.2.7", 9464)  # as it is said


@pytest.mark.parametrize(
    ("listen", "mdns", "looks"),
    [
        ("/ip4/127.0.0.1/tcp/0", "auto", False),
        ("/ip4/127.0.0.1/tcp/0", "on", True),
        ("/ip4/192.168.1.7/tcp/0", "auto", True),
        ("/ip4/192.168.1.7/tcp/0", "off", False),
        ("/ip4/0.0.0.0/tcp/0", "auto", True),
        ("/ip6/::/tcp/0", "auto", False),
    ],
)
def test_the_lan_is_asked_unless_we_are_on_loopback(tmp_path, listen, mdns, looks):
    settings = Settings(data_dir=tmp_path, network=NETWORKS["sandbox"], listen=listen, mdns=mdns)
    assert settings.looks_around is looks


def test_the_machine_itself_is_exempt_unless_it_is_said_otherwise(tmp_path):
    write(tmp_path, 'network = "sandbox"\n')
    assert [str(n) for n in Settings.load(tmp_path).exempt()] == ["127.0.0.0/8", "::1/128"]
    write(tmp_path, 'network = "sandbox"\nexempt_subnets = []\n')
    assert Settings.load(tmp_path).exempt() == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:4001",
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/300.0.0.1/tcp/4001" + PEER[23:],
        "/ip4/127.0.0.1/udp/4001" + PEER[23:],
        PEER.replace("4001", "70000"),
        PEER[:-1] + "0",
        PEER + "/p2p-circuit",
        "/dns4/a b/tcp/1" + PEER[23:],
    ],
)
def test_a_bad_bootstrap_address(text):
    with pytest.raises(Misconfigured) as caught:
        config.check_address("bootstrap", text, peer=True)
    assert caught.value.field == "bootstrap"


def test_the_main_network_is_not_served_yet():
    with pytest.raises(Misconfigured, match="one Electrum server"):
        config.check_tradable(NETWORKS["main"])


@pytest.mark.parametrize("name", ["testnet4", "signet", "sandbox", "regtest"])
def test_the_other_networks_are_served(name):
    config.check_tradable(NETWORKS[name])


def test_a_private_network_reads_a_local_file_and_a_public_one_calls_nobody(tmp_path):
    def sources(name, *named):
        return Settings(data_dir=tmp_path, network=NETWORKS[name], prices=named).price_sources

    assert sources("sandbox") == sources("regtest") == ("file:prices.json",)
    assert sources("signet") == sources("testnet4") == sources("main") == ()
    assert sources("sandbox", "kraken") == ("kraken",)


def test_a_price_source_that_is_unknown_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(Misconfigured, match=r"'krakn' is none of kraken, .* and file:PATH"):
        Settings(data_dir=tmp_path, network=NETWORKS["sandbox"], prices=("krakn",))
