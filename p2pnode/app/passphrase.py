"""How the passphrase comes in: from a prompt, or from a file that is named.

Never from an argument or the environment, which other processes of the machine can read.
"""

import sys
from pathlib import Path
from typing import Final

import click

from p2pnode.base.errors import Misconfigured, UsageFault

MAX_FILE: Final = 4096


def ask(file: Path | None, *, new: bool = False) -> str:
    """Return the passphrase; a new one is asked twice. Raises UsageFault, Misconfigured."""
    if file is not None:
        return read_line(file)
    if not sys.stdin.isatty():
        raise UsageFault(
            "passphrase: there is no terminal to ask on; name a file with --passphrase-file",
            field="passphrase",
        )
    answer: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return answer


def read_line(file: Path) -> str:
    """Return the text of a small file without its last line end. Raises Misconfigured."""
    try:
        with file.open("rb") as source:
            raw = source.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise Misconfigured(f"{file}: is over {MAX_FILE} bytes", field="passphrase_file")
        text = raw.decode()
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}", field="passphrase_file") from None
    except UnicodeDecodeError:
        raise Misconfigured(f"{file}: is not UTF-8 text", field="passphrase_file") from None
    return text.removesuffix("\n").removesuffix("\r")
