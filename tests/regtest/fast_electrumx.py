"""ElectrumX as its own program starts it, without the padding that delays small answers.

Runs in the environment of ElectrumX (.exv), not in ours.
"""

from electrumx.cli.electrumx_server import main
from electrumx.server.transport import PaddedRSTransport

PaddedRSTransport.WAIT_FOR_BUFFER_GROWTH_SECONDS = 0.0
main()
