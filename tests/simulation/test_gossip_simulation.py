"""Fifty nodes gossip in simulation: every message reaches everybody, whatever is lost or swallowed."""

import pytest
from gossip_sim import TOPIC, town

from p2pnode.base.ports import Verdict

MESSAGES = 40


def spread(world, nodes, messages=MESSAGES):
    """Have random nodes publish, twice a second; return what they said."""
    said = []
    for number in range(messages):
        said.append(b"offer %d at %d" % (number, world.now))
        world.draws.choice(nodes).publish(said[-1])
        world.run(0.5)
    world.run(8)
    return said


def missed(nodes, said):
    return [(node.id[:4], data) for node in nodes for data in said if data not in node.got]


def total(nodes, name):
    return sum(node.tally.counts[name] for node in nodes)


@pytest.mark.parametrize("seed", range(8))
def test_every_message_reaches_everybody(seed):
    world, nodes, _ = town(seed)
    said = spread(world, nodes)
    assert not missed(nodes, said)
    assert all(3 <= len(node.router.mesh(TOPIC)) <= 13 for node in nodes)  # till the next beat
    assert not total(nodes, "gossip_closed")
    assert not total(nodes, "gossip_promises_broken")


@pytest.mark.parametrize("seed", range(8))
def test_every_message_reaches_everybody_though_a_fifth_of_all_is_lost(seed):
    world, nodes, _ = town(seed, loss=0.2)
    said = spread(world, nodes)
    assert not missed(nodes, said)
    assert world.lost > 1000
    assert total(nodes, "gossip_answered") > 0  # some came by IHAVE and IWANT alone
    assert not total(nodes, "gossip_closed")


@pytest.mark.parametrize("seed", range(8))
def test_every_message_reaches_everybody_though_sybils_sit_in_the_meshes(seed):
    """Forty peers that came first, graft everybody and pass nothing on; half of all peers."""
    world, nodes, foes = town(seed, sybils=40, sybil_links=25)
    ids = {foe.id for foe in foes}

    def places():
        return sum(len(ids & set(node.router.mesh(TOPIC))) for node in nodes)

    assert places() > 10 * len(nodes)  # nearly all that there are
    said = spread(world, nodes)
    assert not missed(nodes, said)
    assert sum(foe.swallowed for foe in foes) > 1000
    said = spread(world, nodes, 200)
    assert not missed(nodes, said)
    assert places() < len(nodes)  # who passes nothing on loses his place
    asked = total(nodes, "gossip_answered")
    said = spread(world, nodes)
    assert not missed(nodes, said)
    assert total(nodes, "gossip_answered") - asked < len(said) * len(nodes) / 20


@pytest.mark.parametrize("seed", range(4))
def test_what_is_invalid_goes_nowhere_and_its_bringer_is_closed(seed):
    world, nodes, _ = town(seed)
    world.verdict = lambda data: Verdict.REJECT if data.startswith(b"bad") else Verdict.ACCEPT
    liar = nodes[0]
    before = len(liar.router.peers())
    for number in range(5):
        liar.publish(b"bad %d" % number)
        world.run(0.5)
    assert before >= 6
    assert liar.router.peers() == ()  # everybody whom it told has closed it
    assert total(nodes[1:], "gossip_closed") == before
    assert not any(data.startswith(b"bad") for node in nodes[1:] for data in node.got)
    said = spread(world, nodes[1:], 10)
    assert not missed(nodes[1:], said)


def test_a_run_repeats_from_its_seed():
    runs = []
    for _ in range(2):
        world, nodes, _ = town(5, 20, loss=0.2)
        spread(world, nodes, 10)
        runs.append((world.lost, [node.got for node in nodes]))
    assert runs[0] == runs[1]
