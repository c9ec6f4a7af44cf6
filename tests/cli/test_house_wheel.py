"""The wheel holds exactly what it should, installs in an empty environment and runs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from p2pnode import __version__

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("wheel_files.txt")
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "cli.py", "bootstrap_nodes.json")
PACKAGES = ("p2pnode", "dht", "orderbook", "escrow")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build from a copy of what is tracked, so that leftovers of older builds stay out."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        shutil.copy(ROOT / name, tree / name)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=ignored)
    argv = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out", "."]
    run = subprocess.run(argv, cwd=tree, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (built,) = (tree / "out").glob("*.whl")
    return built


def test_its_files_are_the_pinned_ones(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
    if os.environ.get("P2PNODE_RENEW"):
        LIST.write_text("\n".join(names) + "\n")
    assert names == LIST.read_text().split(), "renew the list: docs/testing.md, last line"


def test_its_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = f"p2pnode-{__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        license_text = archive.read(f"{info}/licenses/LICENSE").decode()
        seeds = archive.read("p2pnode/bootstrap_nodes.json")
    assert "\nLicense: AGPL-3.0-or-later\n" in metadata
    assert "\nRequires-Python: " in metadata
    assert "\nRequires-Dist: libp2p==0.8.1\n" in metadata
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in license_text
    assert len(license_text) > 34_000
    assert seeds == (ROOT / "bootstrap_nodes.json").read_bytes()


def test_it_installs_in_an_empty_environment_and_runs(wheel, tmp_path):
    """Its dependencies are those of this environment: exactly the lock's, checked elsewhere."""
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    python = home / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, timeout=120)
    site = next((home / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*argv):
        return subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False)

    program = str(home / "bin/p2pnode")
    assert run(program, "--version").stdout == f"p2pnode, version {__version__}\n"
    helped = run(program, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "  status " in helped.stdout
    code = "import p2pnode.app.node, cli; print(p2pnode.__file__, cli.__file__)"
    where = run(str(python), "-c", code)
    assert where.stdout.count(str(site)) == 2, where.stderr
    asked = run(program, "status", "--data-dir", str(tmp_path / "none"))
    assert asked.returncode == 69
