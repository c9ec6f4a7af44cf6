"""`p2pnode run`: the node itself, in the foreground, until it is stopped."""

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from p2pnode.app.commands.frame import Session, common


@click.command()
@common
@click.option("--listen", metavar="MULTIADDR", help="Where peers reach the node.")
@click.option("--electrum", metavar="HOST:PORT", help="The Electrum server to see the chain by.")
@click.option(
    "--bootstrap",
    metavar="MULTIADDR",
    multiple=True,
    help="A node to join through, /ip4/…/tcp/…/p2p/12D3Koo…; may be repeated.",
)
@click.option("--metrics", metavar="IP:PORT", help="Serve Prometheus metrics there.")
@click.option("--seed", is_flag=True, help="Be a seed: help newcomers find the network.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the passphrase from this file instead of asking.",
)
@click.pass_context
def run(
    context: click.Context,
    session: Session,
    listen: str | None,
    electrum: str | None,
    bootstrap: tuple[str, ...],
    metrics: str | None,
    seed: bool,
    passphrase_file: Path | None,
) -> None:
    r"""Run the node of the data directory until SIGTERM, Ctrl-C or `p2pnode stop`.

    Options win over config.toml. One line says when everything answers; the log is
    node.log in the data directory.

    \b
    p2pnode run --electrum 127.0.0.1:50001 \
        --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3Koo…
    p2pnode run --seed --listen /ip4/127.0.0.1/tcp/4001 --metrics 127.0.0.1:9464
    """
    from p2pnode.app import daemon, passphrase
    from p2pnode.app.config import Settings, check_tradable
    from p2pnode.base.keystore import FILE, Keystore, check_present, open_keystore

    named = context.get_parameter_source("network") is ParameterSource.COMMANDLINE
    check_present(session.data_dir / FILE)
    settings = Settings.load(
        session.data_dir,
        network=session.network if named else None,
        listen=listen,
        electrum=electrum,
        bootstrap=bootstrap or None,
        metrics=metrics,
        seed=seed,
    )
    check_tradable(settings.network)

    def open_keys() -> Keystore:
        secret = passphrase.ask(passphrase_file)
        return open_keystore(session.data_dir / FILE, settings.network, secret)

    def ready(answer: dict[str, Any]) -> None:
        if session.as_json:
            click.echo(json.dumps({"event": "ready"} | answer, ensure_ascii=False))
        else:
            where = ", ".join(answer.get("addrs", ())) or "no address"
            click.echo(f"ready: {answer['node_id']}\n       on {settings.network.name}, {where}")
            if answer.get("metrics"):
                session.remark(f"metrics: {answer['metrics']}")
            if "chain_error" in answer:
                session.remark(f"no chain yet: {answer['chain_error']}")
            if not answer.get("peers") and not settings.seed:
                session.remark("no peer has answered yet; `p2pnode net peers` shows who has")

    code = daemon.run(settings, open_keys, ready)
    if code:
        raise SystemExit(code)
