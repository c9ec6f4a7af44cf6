"""The order book room: signed offers, payment methods and accounts."""
