"""Which subnet an address counts for."""

import ipaddress

import pytest

from dht.subnets import Subnets


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("192.0.2.255", "192.0.2.0/24"),
        ("192.0.3.0", "192.0.3.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2ff::7", "2001:db8:1:200::/56"),
        ("2001:db8:1:200::", "2001:db8:1:200::/56"),
        ("2001:db8:1:300::", "2001:db8:1:300::/56"),
        ("fe80::1%eth0", "fe80::/56"),
        ("127.4.5.6", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("seed.example.org", None),
        ("", None),
        ("192.0.2.7/24", None),
        ("0127.0.0.1", None),
    ],
)
def test_the_group_of_a_host(host, group):
    assert Subnets().group(host) == group


def test_exempt_networks_are_in_no_group_and_nothing_else_is():
    everyone = Subnets(exempt=())
    assert everyone.group("127.0.7.9") == "127.0.7.0/24"
    assert everyone.group("::1") == "::/56"
    home = Subnets(exempt=[ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")])
    assert home.group("10.1.2.3") is None
    assert home.group("::ffff:10.1.2.3") is None
    assert home.group("fd12::1") is None
    assert home.group("127.0.0.1") == "127.0.0.0/24"
