"""`p2pnode demo`: a whole network of real processes on one machine, and two trades on it.

Everything here spawns `p2pnode` as a user would and talks to it by command line and local
API; nothing of a node is imported but the API's client (docs/demo.md).
"""
