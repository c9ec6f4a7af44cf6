"""The preflight names what a machine lacks, with the line that installs it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def preflight(tmp_path, programs, **more):
    """Run it where only the given programs exist."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return subprocess.run(
        ["/bin/sh", str(ROOT / "scripts/preflight.sh")],
        capture_output=True,
        text=True,
        env={"PATH": str(folder)} | more,
        check=False,
    )


PYTHON = {"python3": f'exec "{sys.executable}" "$@"'}
CC = {"cc": "while read line; do :; done"}
MAKE = {"make": ":"}


def test_a_complete_machine_gets_its_python(tmp_path):
    run = preflight(tmp_path, PYTHON | CC | MAKE)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{tmp_path}/bin/python3\n", "")


@pytest.mark.parametrize(
    ("programs", "package", "what"),
    [
        (CC | MAKE, "python3-venv", "Python 3.11"),
        ({"python3": "exit 1"} | CC | MAKE, "python3-dev", "Python 3.11"),
        (PYTHON | MAKE, "gcc", "a C compiler"),
        (PYTHON | MAKE | {"cc": "exit 1"}, "libgmp-dev", "gmp.h"),
        (PYTHON | CC, "make", "make"),
    ],
)
def test_what_is_missing_is_named_with_its_package(tmp_path, programs, package, what):
    run = preflight(tmp_path, programs)
    assert (run.returncode, run.stdout) == (78, "")
    assert what in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if "apt-get install" in line]
    assert package in line.split()


def test_a_python_without_venv_or_headers_is_not_enough(tmp_path):
    wrapped = f"""case "$2" in *ensurepip*) exit 1;; *sysconfig*) echo /nowhere; exit;; esac
exec "{sys.executable}" "$@" """
    run = preflight(tmp_path, {"python3": wrapped} | CC | MAKE)
    assert run.returncode == 78
    assert "venv module" in run.stderr
    assert "Python.h" in run.stderr


def test_the_named_python_wins(tmp_path):
    run = preflight(
        tmp_path, {"mine": PYTHON["python3"], "python3": "exit 1"} | CC | MAKE, PYTHON="mine"
    )
    assert run.stdout.endswith("/mine\n")
