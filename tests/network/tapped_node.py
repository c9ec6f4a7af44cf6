"""`p2pnode …` whose TCP a test can record: it announces a relay, and dials from an address of its own.

python tapped_node.py run --data-dir ROOT/NAME …   reads ROOT/NAME.tap: two lines,
                                                   the multiaddr to announce, the address to dial from
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def tap(announce: str, source: str) -> None:
    """Put the relay between this node and all others."""
    import trio

    from dht import transport_libp2p
    from p2pnode.app import node

    dial = trio.open_tcp_stream

    async def dial_from(host: str | bytes, port: int, **more: Any) -> trio.SocketStream:
        return await dial(host, port, local_address=source, **more)

    trio.open_tcp_stream = dial_from  # type: ignore[assignment]
    node.open_streams = partial(  # type: ignore[assignment]
        transport_libp2p.open_streams, announce=[announce]
    )


if __name__ == "__main__":
    from cli import main

    if sys.argv[1:2] == ["run"]:
        data_dir = Path(sys.argv[sys.argv.index("--data-dir") + 1])
        tap(*data_dir.with_name(f"{data_dir.name}.tap").read_text().split())
    main()
