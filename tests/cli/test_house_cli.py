"""The front door and the daemon as a user meets them: streams, exit codes, signals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from p2pnode import __version__
from p2pnode.base.errors import NodeError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(ROOT / "cli.py")]
PASSPHRASE = "canary-passphrase-7f31"


def p2pnode(*argv, **options):
    options = {"capture_output": True, "text": True, "timeout": 60, "cwd": ROOT} | options
    return subprocess.run([*PROGRAM, *map(str, argv)], check=False, **options)


@pytest.fixture
def passfile(tmp_path):
    path = tmp_path / "pass"
    path.write_text(PASSPHRASE + "\n")
    return path


@pytest.fixture
def data(tmp_path, passfile):
    """A node made by init."""
    folder = tmp_path / "node"
    made = p2pnode("init", "--data-dir", folder, "--passphrase-file", passfile, "--json")
    assert made.returncode == 0, made.stderr
    return folder


class Daemon:
    """A `p2pnode run` of a node with nobody to talk to."""

    def __init__(self, data, passfile, *more):
        argv = ["run", "--data-dir", data, "--passphrase-file", passfile, "--json", *more]
        self.process = subprocess.Popen(
            [*PROGRAM, *map(str, argv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        self.ready = json.loads(line)

    def end(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


# ------------------------------------------------------------------ the front door


def test_help_and_no_words_show_the_same():
    helped, bare = p2pnode("--help"), p2pnode()
    assert (helped.returncode, bare.returncode) == (0, 0)
    assert helped.stdout == bare.stdout
    for name in ("init", "run", "status", "stop"):
        assert f"  {name} " in helped.stdout
    assert "p2pnode demo  " in helped.stdout  # examples keep their lines


def test_help_loads_no_command():
    code = (
        "import sys, cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "bad = [m for m in sys.modules if m.startswith('p2pnode.') and m.count('.') > 2]\n"
        "bad += {'trio', 'libp2p', 'bdkpython', 'nacl', 'json', 'sqlite3', 'http'} & set(sys.modules)\n"
        "sys.exit(repr(bad) if bad else 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr


def test_every_command_of_the_table_that_is_built_loads_and_helps():
    names = cli.main.list_commands(None)
    assert {"init", "run", "status", "stop"} <= set(names)
    for name in names:
        result = CliRunner().invoke(cli.main, [name, "--help"])
        assert result.exit_code == 0, (name, result.output)
        assert r"\b" not in result.output


def test_version():
    assert p2pnode("--version").stdout == f"p2pnode, version {__version__}\n"


def test_a_wrong_word_is_2_and_on_stderr():
    run = p2pnode("traed")
    assert (run.returncode, run.stdout) == (2, "")
    assert "traed" in run.stderr
    run = p2pnode("status", "--nonsense", "--json")
    assert (run.returncode, run.stdout) == (2, "")
    assert json.loads(run.stderr)["error"]["code"] == "usage"


def raises(monkeypatch, error):
    def get(self, path):
        raise error

    monkeypatch.setattr("p2pnode.app.client.Client.get", get)
    return CliRunner().invoke(cli.main, ["status"])


def subclasses(kind):
    for below in kind.__subclasses__():
        yield below
        yield from subclasses(below)


def test_each_error_is_one_line_and_its_exit_code(monkeypatch):
    from p2pnode.base.errors import InvalidRecord

    codes = set()
    for kind in subclasses(NodeError):
        if not kind.__module__.startswith("p2pnode.base"):
            continue
        field = issubclass(kind, InvalidRecord)
        error = kind("price", "is odd") if field else kind("price: is odd")
        result = raises(monkeypatch, error)
        assert result.exit_code == kind.exit_code
        assert (result.stdout, result.stderr) == ("", "error: price: is odd\n")
        codes.add(result.exit_code)
    assert codes == {2, 65, 69, 70, 74, 75, 76, 77, 78}


def test_an_interrupt_is_130(monkeypatch):
    assert raises(monkeypatch, KeyboardInterrupt()).exit_code == 130


def test_a_bug_is_not_dressed_up(monkeypatch):
    assert isinstance(raises(monkeypatch, KeyError("x")).exception, KeyError)


# ------------------------------------------------------------------ init


def test_init_shows_the_words_once_and_keeps_files_private(tmp_path, passfile):
    folder = tmp_path / "deep" / "node"
    made = p2pnode("init", "--data-dir", folder, "--passphrase-file", passfile, "--json")
    answer = json.loads(made.stdout)
    assert len(answer["words"].split()) == 12
    assert made.stderr == ""
    assert folder.stat().st_mode & 0o777 == 0o700
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    again = p2pnode("init", "--data-dir", folder, "--passphrase-file", passfile)
    assert (again.returncode, again.stdout) == (70, "")
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before

    words = tmp_path / "words"
    words.write_text(answer["words"] + "\n")
    twin = p2pnode(
        "init", "--data-dir", tmp_path / "twin", "--passphrase-file", passfile,
        "--restore-file", words, "--json",
    )  # fmt: skip
    restored = json.loads(twin.stdout)
    assert restored["node_id"] == answer["node_id"]
    assert "words" not in restored


@pytest.mark.parametrize(
    ("argv", "code", "field"),
    [
        (["--network", "main"], 78, "network"),
        (["--network", "moon"], 2, "network"),
        (["--electrum", "nonsense"], 78, "electrum"),
        (["--listen", "127.0.0.1:5"], 78, "listen"),
        (["--bootstrap", "/ip4/127.0.0.1/tcp/1"], 78, "bootstrap"),
        (["--restore-file", "no/such/file"], 78, "passphrase_file"),
        (["--restore-file", str(ROOT / "README.md")], 78, "passphrase_file"),
        (["--passphrase-file", "no/such/file"], 78, "passphrase_file"),
    ],
)
def test_a_refused_init_makes_nothing(tmp_path, passfile, argv, code, field):
    folder = tmp_path / "node"
    words = ["init", "--data-dir", folder, "--passphrase-file", passfile, *argv, "--json"]
    run = CliRunner().invoke(cli.main, [str(word) for word in words])
    assert (run.exit_code, run.stdout) == (code, ""), run.stderr
    assert json.loads(run.stderr)["error"]["field"] == field
    assert not folder.exists()


def test_init_without_a_terminal_wants_a_file(tmp_path):
    run = p2pnode("init", "--data-dir", tmp_path / "x", stdin=subprocess.DEVNULL)
    assert run.returncode == 2
    assert "--passphrase-file" in run.stderr


# ------------------------------------------------------------------ run, status, stop


def test_a_node_runs_answers_and_stops(data, passfile):
    daemon = Daemon(data, passfile)
    try:
        assert daemon.ready["event"] == "ready"
        assert daemon.ready["pid"] == daemon.process.pid
        status = p2pnode("status", "--data-dir", data, "--json")
        assert json.loads(status.stdout)["node_id"] == daemon.ready["node_id"]
        second = p2pnode("run", "--data-dir", data, "--passphrase-file", passfile)
        assert second.returncode == 75
        assert str(daemon.process.pid) in second.stderr
        assert p2pnode("stop", "--data-dir", data).returncode == 0
        assert not (data / "lock").exists()
        assert not (data / "api.sock").exists()
        assert daemon.end()[0] == 0
    finally:
        daemon.end(signal.SIGKILL)
    for argv in (["status"], ["stop"]):
        gone = p2pnode(*argv, "--data-dir", data)
        assert (gone.returncode, gone.stdout) == (69, "")
        assert len(gone.stderr.splitlines()) == 1
    for file in data.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_signals_end_it_cleanly_and_a_kill_leaves_no_lock(data, passfile):
    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 0)):
        daemon = Daemon(data, passfile)  # starts over what the one before left
        got, out, err = daemon.end(number)
        assert (got, out, err) == (code, "", "")
    assert not {"lock", "api.sock"} & {f.name for f in data.iterdir()}


def test_no_secret_is_written_anywhere(data, passfile, tmp_path):
    words = tmp_path / "words"
    text = "abandon " * 11 + "about"
    words.write_text(text)
    folder = tmp_path / "canary"
    p2pnode("init", "--data-dir", folder, "--passphrase-file", passfile, "--restore-file", words)
    daemon = Daemon(folder, passfile)
    p2pnode("status", "--data-dir", folder)
    _, out, err = daemon.end()
    written = b"".join(f.read_bytes() for f in folder.iterdir()) + (out + err).encode()
    assert len(written) > 1000
    for secret in (text.encode(), b"abandon", PASSPHRASE.encode()):
        assert secret not in written


def test_a_path_too_long_for_a_socket_works_too(tmp_path, passfile, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / ("long" * 30)
    assert p2pnode("init", "--data-dir", folder, "--passphrase-file", passfile).returncode == 0
    daemon = Daemon(folder, passfile)
    try:
        assert p2pnode("status", "--data-dir", folder).returncode == 0
        assert p2pnode("stop", "--data-dir", folder).returncode == 0
    finally:
        daemon.end()
    assert not (folder / "api.path").exists()
    assert not list(tmp_path.glob("p2pnode-*"))


def test_refusals_of_run(data, tmp_path, passfile):
    wrong = tmp_path / "wrong"
    wrong.write_text("not the passphrase")
    keystore = (data / "keystore").read_bytes()
    for argv, code in (
        (["--passphrase-file", wrong], 77),
        (["--passphrase-file", passfile, "--network", "regtest"], 78),
        (["--passphrase-file", passfile, "--electrum", "x"], 78),
        (["--passphrase-file", tmp_path / "none"], 78),
    ):
        run = p2pnode("run", "--data-dir", data, *argv)
        assert (run.returncode, run.stdout) == (code, ""), run.stderr
        assert len(run.stderr.splitlines()) == 1
    nowhere = p2pnode("run", "--data-dir", tmp_path / "nowhere", "--passphrase-file", passfile)
    assert nowhere.returncode == 78
    assert not (tmp_path / "nowhere").exists()
    (data / "config.toml").write_text('network = "sandbox"\nelectrun = "x"\n')
    run = p2pnode("run", "--data-dir", data, "--passphrase-file", passfile)
    assert run.returncode == 78
    assert "electrun" in run.stderr
    (data / "config.toml").write_text('network = "sandbox"\n')
    (data / "keystore").write_bytes(keystore[:-1])
    run = p2pnode("run", "--data-dir", data, "--passphrase-file", passfile)
    assert run.returncode == 65
    assert (data / "keystore").read_bytes() == keystore[:-1]
    assert not (data / "lock").exists()


def test_a_damaged_database_is_a_sentence_and_74(data, passfile):
    (data / "node.sqlite").write_bytes(b"\xffgarbage" * 2000)
    run = p2pnode("run", "--data-dir", data, "--passphrase-file", passfile)
    assert (run.returncode, run.stdout) == (74, "")
    assert len(run.stderr.splitlines()) == 1
    assert "Traceback" not in run.stderr


def test_stop_says_when_a_daemon_does_not_go(data, monkeypatch):
    """One that answers but never lets go of its lock."""
    import fcntl

    monkeypatch.setattr("p2pnode.app.client.Client.post", lambda self, path: {"pid": 4711})
    with (data / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = CliRunner().invoke(cli.main, ["stop", "--data-dir", str(data), "--timeout", "0.1"])
    assert result.exit_code == 75
    assert "4711" in result.stderr
