"""The escrow room: the trade, the draw, the 2-of-3, the arbiter; chain and wallet below it."""
