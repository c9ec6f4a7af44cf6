"""docs/cli.md says what the code does: every command, option, route, field, event and exit code."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

import cli
from p2pnode.app.api import _STATUS
from p2pnode.app.node import Node
from p2pnode.app.routes import Route
from p2pnode.base import errors

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/cli.md").read_text()
COMMON = {"--json", "--data-dir", "--network", "--help", "-h"}
STREAM = ("GET", "/v1/events", False)
ROUTES = sorted((ROOT / "p2pnode/app").glob("routes_*.py"))


def leaves(command: click.Command, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from leaves(below, *words, name)
    else:
        yield words, command


LEAVES = dict(leaves(cli.main))


def table(first_header: str) -> list[list[str]]:
    """Return the cells of the one table whose header begins so."""
    (start,) = [
        n for n, line in enumerate(PAGE.splitlines()) if line.startswith(f"| {first_header} |")
    ]
    rows = []
    for line in PAGE.splitlines()[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def ticked(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def routes() -> set[tuple[str, str, bool]]:
    nobody: Any = SimpleNamespace(world=None)  # a route is made before anything is asked
    found: list[Route] = list(Node._house_routes(nobody))
    for path in ROUTES:
        make = importlib.import_module(f"p2pnode.app.{path.stem}").routes
        found += make(**dict.fromkeys(inspect.signature(make).parameters, nobody))
    return {(r.method, r.path, r.once) for r in found} | {STREAM}


def test_every_command_is_on_the_page_and_no_other() -> None:
    assert {row[0] for row in table("command")} == {f"`{' '.join(words)}`" for words in LEAVES}


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_its_options_are_the_ones_on_the_page(words: tuple[str, ...]) -> None:
    (row,) = [r for r in table("command") if r[0] == f"`{' '.join(words)}`"]
    built = set()
    for parameter in LEAVES[words].params:
        if isinstance(parameter, click.Argument):
            built.add((parameter.metavar or parameter.name or "").upper())
        else:
            built |= {name for name in parameter.opts if name.startswith("--")}
    extra = COMMON - {"--data-dir"} if words in {("demo",), ("sandbox", "run")} else COMMON
    assert built - extra == ticked(row[1])


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_its_help_fits_80_columns_and_shows_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.main, [*words, "--help"], terminal_width=80)
    shown = result.stdout.splitlines()
    assert any(line.startswith(f"  p2pnode {' '.join(words)}") for line in shown)
    assert max(map(len, shown)) <= 80


def test_the_lists_of_commands_are_not_cut_off() -> None:
    for noun in {words[0] for words in LEAVES if len(words) > 1}:
        result = CliRunner().invoke(cli.main, [noun, "--help"], terminal_width=80)
        assert "..." not in result.stdout.partition("Commands:")[2], noun


def test_every_route_is_on_the_page_with_its_key_and_no_other() -> None:
    written = set()
    for cells in table("method and path"):
        method, path = cells[0].strip("`").split()
        written.add((method, path, cells[1] == "yes"))
    assert written == routes()


def test_the_routes_that_commands_answer_with_exist() -> None:
    known = {f"{method} {path}" for method, path, _ in routes()}
    named = {t for row in table("command") for t in ticked(row[2]) if "/v1/" in t}
    assert named
    assert named <= known


def test_every_exit_code_is_on_the_page_and_no_other() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and k is not errors.NodeError]
    built: dict[int, set[str]] = {}
    for kind in kinds:
        if issubclass(kind, errors.NodeError):
            built.setdefault(kind.exit_code, set()).add(kind.code)
    written = {int(row[0]): ticked(row[1]) for row in table("code")}
    assert written == built | {0: set(), cli.INTERRUPTED: set()}


def test_every_http_status_is_on_the_page() -> None:
    written = {
        (int(status), code)
        for row in table("status")
        for status in row[0].split(", ")
        for code in ticked(row[1])
    }
    assert {(int(status), kind.code) for kind, status in _STATUS.items()} <= written


def _fields(source: str) -> set[str]:
    """Return every name that a module writes into an object: a key in a dict or a subscript."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            found |= {k.value for k in node.keys if isinstance(k, ast.Constant)}  # type: ignore[misc]
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found |= {str(node.slice.value)} if isinstance(node.ctx, ast.Store) else set()
    return found


def test_every_field_of_an_answer_is_on_the_page_and_no_other() -> None:
    built = set().union(*(_fields(path.read_text()) for path in ROUTES))
    built |= {
        "reason",
        "outcome",
        "why",
        "account_buyer",
        "account_seller",
    }  # by a name in a variable
    rows = [*table("method and path"), *table("object")]
    written = {t for row in rows for cell in row[1:] for t in ticked(cell)}
    assert built - written == set()
    others = ("p2pnode/app/node.py", "orderbook/methods.py", "dht/shell_node.py")
    others += ("orderbook/shell_sync.py",)
    known = built.union(*(_fields((ROOT / other).read_text()) for other in others))
    known |= _fields((ROOT / "escrow/drawfile.py").read_text())
    known |= _fields((ROOT / "escrow/equivocation.py").read_text())
    known |= _fields((ROOT / "escrow/export.py").read_text())
    taken = r"call\.(?:text|integer|flag)\(\s*\"(\w+)\""
    for path in ROUTES:
        known |= set(re.findall(taken, path.read_text()))
    assert written - known == {"after", "draw verify", "proof verify", "GET /v1/arbiter"}


def test_every_event_is_on_the_page() -> None:
    written = {t for row in table("`event`") for t in ticked(row[0])}
    published = {"gap", "trade", "case"}
    for path in [*(ROOT / "escrow").glob("*.py"), *(ROOT / "p2pnode/app").glob("*.py")]:
        calls = r"(?:announce|events)\.publish\(\s*\"(\w+)\""
        published |= set(re.findall(calls, path.read_text()))
    assert written == published
