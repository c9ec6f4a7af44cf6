"""A seed and a newcomer as processes: every seed that the newcomer knows is dead, mDNS finds one."""

import http.client
import json
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2pnode.app import daemon
from p2pnode.base.identity import Identity, peer_id
from p2pnode.base.networks import NETWORKS

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(ROOT / "cli.py")]
SOFT = 128  # descriptors allowed before the daemon asks for more
DEADLINE = 40


def p2pnode(*argv, code=0):
    done = subprocess.run(
        [*PROGRAM, *map(str, argv)], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout


class Node:
    """A node on loopback that looks for others of its machine."""

    def __init__(self, folder, passfile, *more):
        self.data, self._argv = folder, ["--passphrase-file", passfile, *more]
        p2pnode("init", "--data-dir", folder, "--passphrase-file", passfile)
        with (folder / "config.toml").open("a") as config:
            config.write('mdns = "on"\n')

    def __enter__(self):
        argv = ["run", "--json", "--data-dir", self.data, *self._argv]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.process = subprocess.Popen(
            [*PROGRAM, *map(str, argv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, hard)),
        )
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.ready = json.loads(line)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)

    def ask(self, *argv, code=0):
        out = p2pnode(*argv, "--json", "--data-dir", self.data, code=code)
        return [json.loads(line) for line in out.splitlines()]

    def until(self, condition, *argv):
        """Ask again until the answer is as it should be."""
        end = time.monotonic() + DEADLINE
        while not condition(answer := self.ask(*argv)):
            log = (self.data / "node.log").read_text()
            assert time.monotonic() < end, f"{argv} answered {answer}\n{log}"
        return answer


@pytest.fixture
def passfile(tmp_path):
    path = tmp_path / "pass"
    path.write_text("a long passphrase\n")
    return path


@pytest.fixture
def dead():
    """A seed that nobody serves: its port refuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and never listening
        name = peer_id(Identity.grind(NETWORKS["sandbox"], b"dead").node_id)
        yield f"/ip4/127.0.0.1/tcp/{free.getsockname()[1]}/p2p/{name}"


def test_with_every_seed_dead_a_neighbour_is_found_watched_and_banned(tmp_path, passfile, dead):
    seed = Node(tmp_path / "seed", passfile, "--seed", "--metrics", "127.0.0.1:0")
    late = Node(tmp_path / "late", passfile, "--bootstrap", dead)
    with seed, late:
        seed_id, late_id = seed.ready["node_id"], late.ready["node_id"]
        assert seed.ready["seed"] is True
        assert seed.ready["mdns"] is True
        late.until(lambda rows: any(r["node_id"] == seed_id for r in rows), "net", "peers")
        seed.until(lambda rows: any(r["node_id"] == late_id for r in rows), "net", "peers")

        (view,) = seed.ask("net", "dht")
        assert view["reached"] >= 1
        where = seed.ready["metrics"].removeprefix("http://").removesuffix("/metrics")
        scrape = http.client.HTTPConnection(where, timeout=10)
        scrape.request("GET", "/metrics")
        text = scrape.getresponse().read().decode()
        scrape.close()
        assert 'p2pnode_info{network="sandbox",seed="yes",version=' in text
        assert 'p2pnode_transport_events_total{event="connections_in"}' in text
        limits = Path(f"/proc/{seed.process.pid}/limits").read_text()
        allowed = next(x.split()[3] for x in limits.splitlines() if x.startswith("Max open files"))
        assert int(allowed) > SOFT

        (told,) = seed.ask("net", "seeds", "sign", "--addr", "/dns4/seed.example/tcp/4001")
        listed = tmp_path / "list.json"
        seeds = {"signed_only": True, "seeds": [told["entry"]]}
        listed.write_text(json.dumps({"version": 1, "networks": {"sandbox": seeds}}))
        (checked,) = seed.ask("net", "seeds", "verify", listed)
        assert checked["entries"][0]["state"] == "signed"

        seed.ask("net", "ban", "add", late_id[:12], "--for", "2h", "--reason", "a test")
        (ban,) = seed.ask("net", "ban", "list")
        assert (ban["subject"], ban["by_hand"]) == (late_id, True)
        assert not any(r["node_id"] == late_id for r in seed.ask("net", "peers"))
        seed.ask("net", "ban", "remove", late_id[:12])
        assert seed.ask("net", "ban", "list") == []
        p2pnode("stop", "--data-dir", seed.data)
        assert seed.process.wait(timeout=30) == 0


def test_metrics_where_they_cannot_be_served_end_the_start_with_one_line(tmp_path, passfile):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        node = Node(tmp_path / "node", passfile, "--metrics", where)
        argv = ["run", "--data-dir", node.data, *node._argv]
        done = subprocess.run(
            [*PROGRAM, *map(str, argv)], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"error: metrics: {where}: ")
    assert done.stderr.count("\n") == 1


def test_the_limit_of_files_is_raised_to_the_hard_one_within_reason(monkeypatch):
    given, asked = [(1024, 4096)], []
    monkeypatch.setattr(resource, "getrlimit", lambda _: given[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert daemon.raise_file_limit() == 4096
    given[0] = (1024, resource.RLIM_INFINITY)
    assert daemon.raise_file_limit() == daemon.MAX_FILES
    given[0] = (1024, 1_000_000)
    assert daemon.raise_file_limit() == daemon.MAX_FILES
    assert asked == [(4096, 4096), (65_536, resource.RLIM_INFINITY), (65_536, 1_000_000)]
    given[0] = (100_000, 1_000_000)
    assert daemon.raise_file_limit() == 100_000  # never lowered
    assert len(asked) == 3


def test_a_system_that_does_not_allow_it_is_no_reason_to_stop(monkeypatch, caplog):
    def refuse(_which, _limits):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert daemon.raise_file_limit() == 256
    assert "at most 256 descriptors" in caplog.text
