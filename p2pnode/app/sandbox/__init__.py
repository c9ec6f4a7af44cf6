"""A private chain for demos and tests: Bitcoin Core validates, mining is ours, Electrum speaks.

Start it inside a trio program:

    box = Sandbox(None)                                    # p2pnode.app.sandbox.mempool
    server = ElectrumServer(box)                           # p2pnode.app.sandbox.server
    port = await nursery.start(server.serve, 0)
    box.mine(1, step=3600); server.flush()                 # flush: tell the subscribers
    box.close()

or as a program of its own: `p2pnode sandbox run`.
"""
