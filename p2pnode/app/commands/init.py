"""`p2pnode init`: a node's key, its wallet's words, its configuration. Needs no daemon."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pnode.app.commands.frame import Session, common
from p2pnode.base.errors import StorageFault

if TYPE_CHECKING:
    from p2pnode.app.config import Settings
    from p2pnode.base.keystore import Keystore


@click.command()
@common
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the passphrase from this file instead of asking.",
)
@click.option(
    "--restore-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Restore from the twelve words in this file instead of drawing new ones.",
)
@click.option("--listen", metavar="MULTIADDR", help="Where peers reach the node.")
@click.option("--electrum", metavar="HOST:PORT", help="The Electrum server to see the chain by.")
@click.option("--bootstrap", metavar="MULTIADDR", multiple=True, help="A node to join through.")
def init(
    session: Session,
    passphrase_file: Path | None,
    restore_file: Path | None,
    listen: str | None,
    electrum: str | None,
    bootstrap: tuple[str, ...],
) -> None:
    r"""Make a node in the data directory.

    It prints twelve words once. They are the wallet and the node's identity: write them
    down. Who has them has the money; who loses words and passphrase has lost it.

    \b
    p2pnode init
    p2pnode init --electrum 127.0.0.1:50001 --data-dir ./maker
    p2pnode init --restore-file ./words --data-dir ./restored
    """
    from p2pnode.app import config, passphrase
    from p2pnode.base.networks import network

    net = network(session.network)
    config.check_tradable(net)
    settings = config.Settings(
        data_dir=session.data_dir,
        network=net,
        listen=listen or config.DEFAULT_LISTEN,
        electrum=electrum or "",
        bootstrap=bootstrap,
    )
    words = passphrase.read_line(restore_file) if restore_file else None
    keystore = _make_keystore(session, settings, passphrase_file, words)
    _tell(session, keystore, restored=words is not None)


def _make_keystore(
    session: Session, settings: "Settings", passphrase_file: Path | None, words: str | None
) -> "Keystore":
    from p2pnode.app import passphrase
    from p2pnode.base import keystore

    path = session.data_dir / keystore.FILE
    keystore.check_absent(path)
    if words is not None:
        words = keystore.check_words(words)
    secret = passphrase.ask(passphrase_file, new=True)
    try:
        session.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFault(f"{session.data_dir}: {error.strerror}") from None
    settings.save()  # first: a keystore whose words were never shown must not come to be
    net = settings.network
    if words is not None:
        return keystore.restore(path, net, secret, words)
    return keystore.create(path, net, secret, os.urandom(keystore.ENTROPY_BYTES))


def _tell(session: Session, keystore: "Keystore", *, restored: bool) -> None:
    from p2pnode.base.identity import peer_id

    node_id = keystore.identity.node_id
    answer = {
        "node_id": node_id.hex(),
        "peer_id": peer_id(node_id),
        "network": session.network,
        "data_dir": str(session.data_dir),
    }
    lines = [f"node     {node_id.hex()}", f"network  {session.network}"]
    lines.append(f"data     {session.data_dir}")
    if not restored:
        words = keystore.mnemonic.reveal()
        answer["words"] = words
        each = words.split()
        lines += ["", *("    " + " ".join(each[n : n + 6]) for n in (0, 6)), ""]
        session.remark("Write these words down now, on paper: they are not shown again by init.")
        session.remark("They are the wallet and the node. Nobody can replace them.")
    session.emit(answer, *lines)
