"""The command line's front door: `p2pnode NOUN VERB`. Thin; a command loads when it is called.

`--help` reads the table below and imports no command. Every deliberate error leaves in
one line with its exit code (docs/cli.md); a bug still shows its traceback.
"""

import importlib
import importlib.util
import sys
from typing import Any, Final

import click

from p2pnode import __version__

COMMANDS: Final = {
    "init": "Make a node: its key, its wallet, its configuration.",
    "run": "Run the node until it is stopped.",
    "status": "Show what the running node is doing.",
    "stop": "Stop the running node and wait until it has gone.",
    "sandbox": "A private bitcoin chain on this machine, to learn and to test.",
    "demo": "A whole trade and a dispute between real nodes on this machine.",
    "wallet": "Balance, addresses, payments.",
    "account": "The payment accounts that offers name.",
    "offer": "Publish, find and withdraw offers.",
    "trade": "Take an offer and see the trade through.",
    "proposal": "Another price than the offer's, proposed and answered.",
    "dispute": "Ask the arbiter who was drawn.",
    "arbiter": "Judge disputes as a volunteer.",
    "draw": "Check how an arbiter was drawn, from the transcript alone.",
    "proof": "Show and check proofs that somebody signed two things.",
    "market": "Prices, depth, charts and what was traded.",
    "net": "Peers and what the network knows.",
}
INTERRUPTED: Final = 130
PACKAGE: Final = "p2pnode.app.commands"


class FrontDoor(click.Group):
    """Finds a command by name, and turns errors into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands of this build, in the order of the table."""
        return [name for name in COMMANDS if importlib.util.find_spec(f"{PACKAGE}.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{PACKAGE}.{cmd_name}")
        return _keep_examples(getattr(module, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without loading anything."""
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def main(  # type: ignore[override]
        self, args: list[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run one command and leave the process with its exit code."""
        words = sys.argv[1:] if args is None else list(args)
        extra["standalone_mode"] = False
        extra.setdefault("color", _colours())
        try:
            code = super().main(args=words, prog_name=prog_name or "p2pnode", **extra)
        except click.Abort:
            click.echo("aborted", err=True)
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            sys.exit(_usage(error, "--json" in words))
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a NodeError that it let through becomes one line here."""
        from p2pnode.base.errors import NodeError

        try:
            return super().invoke(ctx)
        except NodeError as error:
            from p2pnode.app.commands.frame import fail

            fail(error, "--json" in sys.argv)


def _keep_examples(command: click.Command) -> click.Command:
    """Let click see the mark of raw docstrings below which it must not rewrap."""
    if command.help:
        command.help = command.help.replace(r"\b", "\b")
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _keep_examples(below)
    return command


def _usage(error: click.ClickException, as_json: bool) -> int:
    """Show a mistake in the words of the command line; return the exit code."""
    parameter = getattr(error, "param", None)
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None:
        message += f" Try `{context.command_path} --help`."
    if as_json:
        import json

        field = getattr(parameter, "name", None) or getattr(error, "option_name", "")
        body = {"code": "usage", "field": field, "message": message}
        click.echo(json.dumps({"error": body}, ensure_ascii=False), err=True)
    else:
        click.secho(f"error: {message}", fg="red", err=True, color=_colours())
    return error.exit_code


def _colours() -> bool | None:
    """Return False where NO_COLOR (no-color.org) is set, else None: click looks at the stream."""
    import os

    return False if os.environ.get("NO_COLOR") else None


@click.group(
    cls=FrontDoor,
    invoke_without_command=True,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="p2pnode")
@click.pass_context
def main(ctx: click.Context) -> None:
    r"""Trade bitcoin for money, peer to peer: no company between, no custody.

    \b
    p2pnode demo                          a whole trade on this machine, in a minute
    p2pnode init                          make a node; write its words down
    p2pnode run --electrum 127.0.0.1:50001 --bootstrap /ip4/…/tcp/…/p2p/12D3Koo…
    p2pnode offer list --sell --cur EUR   who sells bitcoin for euro
    p2pnode COMMAND --help                what a command takes, with examples

    Every command takes --json (an object a line), --data-dir and --network.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


_keep_examples(main)

if __name__ == "__main__":
    main()
