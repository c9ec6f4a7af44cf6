"""The roof: the node's composition, its local API, the client, the commands, the demo."""
