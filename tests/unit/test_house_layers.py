"""Who may import whom, read from the syntax tree; and what the documents must not hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("dht", "orderbook", "escrow")
SHELLS = ("shell", "store", "transport", "backend")
IMPURE = {
    "trio",
    "asyncio",
    "socket",
    "sqlite3",
    "time",
    "random",
    "secrets",
    "os",
    "logging",
    "libp2p",
}
FRONT_DOOR = {"importlib", "sys", "typing", "click", "p2pnode"}
COMMAND_TOP = (
    "p2pnode.app.client",
    "p2pnode.app.commands",
    "p2pnode.base.errors",
    "p2pnode.base.units",
)
STANDALONE = {"init", "run", "sandbox", "draw", "net", "proof", "frame"}  # load more, when called
SUPERVISOR = "dht/transport_libp2p.py"  # a peer's stream ends alone, whatever its handler met
TEXTS = (
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "setup.cfg",
    ".ci",
    "docs",
    "changelog.d",
    "scripts",
)


def imports(path, *, top_only=False):
    """Yield what a module imports at run time; `top_only`: when it is loaded."""
    tree = ast.parse(path.read_text())
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if top_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        todo.extend(ast.iter_child_nodes(node))


def cores():
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if not path.name.startswith(SHELLS):
                yield pytest.param(path, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("path", list(cores()))
def test_a_core_is_pure(path):
    found = {name.split(".")[0] for name in imports(path)} & IMPURE
    assert not found, f"{path.name} decides, so it takes these as arguments: {sorted(found)}"


@pytest.mark.parametrize("path", list(cores()))
def test_a_core_imports_no_shell_of_its_room(path):
    bad = [
        name
        for name in imports(path)
        if name.split(".")[0] in ROOMS and any(p.startswith(SHELLS) for p in name.split(".")[1:2])
    ]
    assert not bad


def test_the_front_door_is_thin():
    assert {name.split(".")[0] for name in imports(ROOT / "cli.py", top_only=True)} <= FRONT_DOOR
    loaded = {
        name for name in imports(ROOT / "cli.py", top_only=True) if name.startswith("p2pnode.")
    }
    assert loaded == {"p2pnode.__version__"}


def commands():
    for path in sorted((ROOT / "p2pnode/app/commands").glob("*.py")):
        yield pytest.param(path, id=path.stem)


@pytest.mark.parametrize("path", list(commands()))
def test_a_command_loads_the_client_and_nothing_heavier(path):
    import sys

    for name in imports(path, top_only=True):
        root = name.split(".")[0]
        if root == "p2pnode":
            allowed = any(name == ok or name.startswith(ok + ".") for ok in COMMAND_TOP)
            parent = name in {"p2pnode.base", "p2pnode.app"}
            story = path.stem == "demo" and name.startswith("p2pnode.app.demo.")
            assert allowed or parent or story, f"{path.name} loads {name}"
        else:
            assert root == "click" or root in sys.stdlib_module_names, f"{path.name} loads {name}"


@pytest.mark.parametrize("path", list(commands()))
def test_a_command_reaches_the_rooms_only_through_the_api(path):
    if path.stem in STANDALONE:
        return
    for name in imports(path):
        assert name.split(".")[0] not in {*ROOMS, "libp2p", "trio", "sqlite3"}, name
        assert not name.startswith(("p2pnode.app.node", "p2pnode.app.api")), name


def sources():
    for room in ("p2pnode", *ROOMS):
        yield from sorted((ROOT / room).rglob("*.py"))
    yield ROOT / "cli.py"


def test_nothing_is_unpickled_or_evaluated():
    for path in sources():
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"pickle", "marshal", "shelve", "dill"}, path
        calls = {
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not calls & {"eval", "exec"}, path


def test_only_bugs_are_unexpected():
    """No handler but the one supervisor swallows what nobody expected."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                names = (
                    {"BaseException"}
                    if node.type is None
                    else {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
                )
                broad = names & {"Exception", "BaseException"}
                again = any(isinstance(n, ast.Raise) for n in ast.walk(node))
                if broad and not again:
                    found.append(str(path.relative_to(ROOT)))
    assert found in ([], [SUPERVISOR])


def texts():
    for name in TEXTS:
        path = ROOT / name
        yield from (p for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
    yield from sources()


def test_no_path_of_somebodys_machine():
    machine = re.compile(r"(?<![\w.$}])/(?:home|root|tmp|work|Users|opt)/\w")
    for path in texts():
        if path.suffix in {".py", ".md", ".sh", ".cfg", ""}:
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert not machine.search(line), (
                    f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
                )


def test_links_between_documents_lead_somewhere():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_every_pin_of_the_package_is_the_locks():
    lock = set((ROOT / "requirements/lock.txt").read_text().lower().split())
    block = (ROOT / "setup.cfg").read_text().split("install_requires =")[1].split("\n\n")[0]
    pins = [line.strip().lower() for line in block.splitlines() if "==" in line]
    assert len(pins) > 10
    assert set(pins) <= lock
