"""bootstrap_nodes.json: every field is checked, a signed entry cannot be altered and goes stale."""

import json
from pathlib import Path

import pytest
from dht_kit import NETWORK, NOW, identity
from hypothesis import given
from hypothesis import strategies as st

from dht import bootstrap
from dht.endpoint import Peer
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, peer_id, works
from p2pnode.base.networks import network

ALICE, BOB = identity("alice"), identity("bob")
LAZY = next(i for n in range(999) if not works(NETWORK, (i := Identity(bytes([n]) * 32)).node_id))
GOOD = {"peer_id": peer_id(ALICE.node_id), "addrs": ["/ip4/192.0.2.7/tcp/4001"]}
ALICE_AT = Peer(ALICE.node_id, ("/ip4/192.0.2.7/tcp/4001",))
DAY = 24 * 3600
SIGNED = bootstrap.sign(ALICE, NETWORK, GOOD["addrs"], NOW + 30 * DAY)


def seeds_file(*entries, version=1):
    return json.dumps({"version": version, "networks": {"sandbox": list(entries), "main": []}})


def signed_only(*entries, **more):
    listing = {"signed_only": True, "seeds": list(entries)} | more
    return json.dumps({"version": 1, "networks": {"sandbox": listing}})


def judge(entry, *, now=NOW):
    ((finding,),) = [x.findings for x in bootstrap.verify(signed_only(entry), now)]
    return finding


def test_the_file_in_the_tree_is_sound_and_invents_nobody():
    link = Path(__file__).parents[2] / "p2pnode" / "bootstrap_nodes.json"
    listings = bootstrap.verify(link.read_text(), NOW)
    assert [(x.peers(), x.complaints()) for x in listings] == [((), ())] * 5


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({}, "peer_id"),
        (GOOD | {"peer_id": "QmNope"}, "peer_id"),
        (GOOD | {"peer_id": peer_id(LAZY.node_id)}, "peer_id"),
        (GOOD | {"peer_id": 7}, "peer_id"),
        (GOOD | {"addrs": []}, "addrs"),
        (GOOD | {"addrs": "x"}, "addrs"),
        (GOOD | {"addrs": ["/ip4/192.0.2.7/udp/1"]}, "addrs"),
        (GOOD | {"addrs": ["/ip4/192.0.2.7/tcp/0"]}, "addrs"),
        (GOOD | {"addrs": [f"{GOOD['addrs'][0]}/p2p/{GOOD['peer_id']}"]}, "addrs"),
        (GOOD | {"addrs": [7]}, "addrs"),
        (GOOD | {"addrs": GOOD["addrs"] * 5}, "addrs"),
        (GOOD | {"expires_at": NOW}, "signature"),
        (GOOD | {"signature": SIGNED["signature"]}, "expires_at"),
        (GOOD | {"expire_at": NOW}, "entry"),
        (SIGNED | {"expires_at": NOW - 1}, "signature"),
        (SIGNED | {"expires_at": True}, "expires_at"),
        (SIGNED | {"expires_at": -1}, "expires_at"),
        (SIGNED | {"expires_at": 2**53}, "expires_at"),
        (SIGNED | {"expires_at": float(NOW)}, "expires_at"),
        (SIGNED | {"signature": SIGNED["signature"].upper()}, "signature"),
        (SIGNED | {"signature": SIGNED["signature"][2:]}, "signature"),
        (SIGNED | {"signature": None}, "signature"),
        (SIGNED | {"signature": ["x"]}, "signature"),
        ([], "entry"),
        ("x", "entry"),
        (None, "entry"),
    ],
)
def test_a_bad_seed_is_named_and_skipped(entry, what):
    good, bad = bootstrap.seeds(seeds_file(entry, GOOD), NETWORK, NOW)
    assert good == (ALICE_AT,)
    assert len(bad) == 1
    assert bad[0].startswith(f"networks.sandbox[0].{what}: ")
    assert bootstrap.seeds(seeds_file(entry, GOOD), network("main"), NOW) == ((), ())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version":1}', '{"version":1,"networks":[]}', seeds_file(version=2),
     '{"version":true,"networks":{}}', '{"version":1,"networks":{"main":{}}}', "[" * 100_000,
     '{"version":1,"version":1,"networks":{}}', '{"version":1,"networks":{"main":NaN}}',
     '{"version":1,"networks":{"main":{"seeds":{}}}}', signed_only(other=1),
     signed_only().replace("true", "1"), '{"version":1,"networks":{"main":' + "9" * 5000 + "}}",
     " " * bootstrap.MAX_FILE_BYTES + "{}"],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused(text):
    with pytest.raises(InvalidRecord):
        bootstrap.seeds(text, NETWORK, NOW)
    with pytest.raises(InvalidRecord):
        bootstrap.verify(text, NOW)


def test_two_entries_of_one_node_are_joined():
    other = GOOD | {"addrs": ["/ip4/192.0.2.8/tcp/1"]}
    good, bad = bootstrap.seeds(seeds_file(GOOD, other), NETWORK, NOW)
    assert not bad
    assert good == (Peer(ALICE.node_id, (*GOOD["addrs"], *other["addrs"])),)


def test_a_list_that_is_too_long_is_cut_and_says_so():
    text = seeds_file(*[GOOD] * (bootstrap.MAX_SEEDS + 1))
    good, bad = bootstrap.seeds(text, NETWORK, NOW)
    assert good == (ALICE_AT,)
    assert bad == ("networks.sandbox: has more than 256 entries; the rest is skipped",)


def test_a_network_that_nobody_knows_is_named():
    (listing,) = bootstrap.verify('{"version":1,"networks":{"mo\\u001bon":[]}}', NOW)
    assert listing.complaints()[0].startswith("networks.mo?on: is none of main, ")


# ------------------------------------------------------------------ signed entries


def test_a_signed_entry_is_used_until_it_expires():
    assert judge(SIGNED).state == "signed"
    assert judge(SIGNED).peer == ALICE_AT
    assert judge(SIGNED, now=NOW + 30 * DAY - 1).why == ""
    late = judge(SIGNED, now=NOW + 30 * DAY)
    assert late.state == "expired"
    assert late.why.startswith("expires_at: was 2027-")
    assert bootstrap.seeds(seeds_file(SIGNED), NETWORK, NOW + 31 * DAY)[0] == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"peer_id": peer_id(BOB.node_id)},
        {"addrs": ["/ip4/192.0.2.8/tcp/4001"]},
        {"addrs": [*GOOD["addrs"], "/ip4/192.0.2.8/tcp/4001"]},
        {"expires_at": SIGNED["expires_at"] + 1},
        {"signature": "00" * 64},
        {"signature": bootstrap.sign(BOB, NETWORK, GOOD["addrs"], NOW + 30 * DAY)["signature"]},
    ],
)
def test_nobody_on_the_way_can_alter_a_signed_entry(changed):
    finding = judge(SIGNED | changed)
    assert (finding.state, finding.why) == (
        "bad signature",
        "signature: does not match the signer's key",
    )
    assert bootstrap.seeds(seeds_file(SIGNED | changed), NETWORK, NOW)[0] == ()


def test_a_signature_for_another_network_is_none():
    there = network("regtest")
    assert judge(bootstrap.sign(ALICE, there, GOOD["addrs"], NOW + DAY)).state == "bad signature"


def test_a_signature_cannot_reach_far_ahead():
    far = bootstrap.sign(ALICE, NETWORK, GOOD["addrs"], NOW + bootstrap.MAX_LIFETIME + 1)
    assert judge(far).why == "expires_at: is more than 366 days ahead"
    huge = bootstrap.sign(ALICE, NETWORK, GOOD["addrs"], 2**53 - 1)
    assert judge(huge, now=2**53 - 1).why.startswith("expires_at: was 9007199254740991")


def test_a_list_may_ask_for_signed_entries_only():
    good, bad = bootstrap.seeds(signed_only(GOOD, SIGNED), NETWORK, NOW)
    assert good == (ALICE_AT,)
    assert bad == (
        "networks.sandbox[0].signature: is missing, and this list takes signed entries only",
    )
    assert bootstrap.seeds(seeds_file(GOOD), NETWORK, NOW) == ((ALICE_AT,), ())


@pytest.mark.parametrize("addrs", [[], ["x"], ["/ip4/192.0.2.7/tcp/0"], GOOD["addrs"] * 5])
def test_what_could_not_be_used_is_not_signed(addrs):
    with pytest.raises(InvalidRecord):
        bootstrap.sign(ALICE, NETWORK, addrs, NOW + DAY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(SIGNED, JSON)) | JSON)
def test_any_entry_is_a_finding(entry):
    text = json.dumps({"version": 1, "networks": {"sandbox": [SIGNED | entry]}}) if isinstance(
        entry, dict
    ) else seeds_file(entry)  # fmt: skip
    try:
        good, bad = bootstrap.seeds(text, NETWORK, NOW)
    except InvalidRecord:  # NaN is no JSON
        assert "NaN" in text or "Infinity" in text
        return
    assert len(good) + len(bad) == 1


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_a_list_or_one_error(text):
    try:
        bootstrap.verify(text, NOW)
    except InvalidRecord:
        pass
