"""The sandbox as a program of its own: open the chain, serve it, stop on a signal."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import trio

from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.server import HOST, ElectrumServer, port_of
from p2pnode.base.errors import StorageFault


def serve(
    port: int,
    directory: Path | None,
    ready: Callable[[str, int], None],
    address_file: Path | None,
) -> None:
    """Serve until SIGTERM or SIGINT, then close the chain. Raises NodeError.

    `ready` is told the address and the height once clients are answered; the address is
    in `address_file` from then until the end.
    """
    trio.run(_serve, port, directory, ready, address_file)


async def _serve(
    port: int,
    directory: Path | None,
    ready: Callable[[str, int], None],
    address_file: Path | None,
) -> None:
    # signals first: one that comes while the chain opens still leads to a clean close
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
        contextlib.closing(Sandbox(directory)) as box,
    ):
        server = ElectrumServer(box)
        listeners = await server.listen(port)
        address = f"{HOST}:{port_of(listeners)}"
        with _written(address_file, address):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.accept, listeners)
                ready(address, box.height)
                async for _ in signals:
                    nursery.cancel_scope.cancel()


@contextlib.contextmanager
def _written(path: Path | None, address: str) -> Iterator[None]:
    try:
        if path:
            path.write_text(address + "\n")
    except OSError as error:
        raise StorageFault(f"{path}: {error.strerror}") from None
    try:
        yield
    finally:
        if path:
            path.unlink(missing_ok=True)
