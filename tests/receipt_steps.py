"""Whole trades of a rig's nodes, up to the receipts that both have of them."""

from trade_kit import NET, Rig

from escrow.messages import Kind
from escrow.model import Broadcast, Closed, Funded, Paid, SayPaid, SayReceived
from escrow.receipt import Receipt
from escrow.standing import AGE_S


async def traded(r: Rig, maker: str = "maker", taker: str = "taker", **offer: object) -> bytes:
    """Bring a trade to its good end; both have its receipt."""
    trade_id = await r.take(r.offer(maker=maker, **offer), taker=taker)  # type: ignore[arg-type]
    await settled(r, trade_id, maker, taker)
    return trade_id


async def settled(r: Rig, trade_id: bytes, maker: str, taker: str) -> None:
    async def each(kind: type) -> None:
        for name in (maker, taker):
            await r.until(name, trade_id, kind)

    await each(Broadcast)

    async def pooled() -> None:
        assert r[maker].facts(trade_id).outpoint.txid in r.mempool()

    await r.eventually(pooled)
    r.mine()
    await each(Funded)
    contract = r[maker].facts(trade_id).contract
    buyer, seller = (r.post.names[n] for n in (contract.buyer, contract.seller))
    await r.delivered(seller, trade_id, Kind.ACK)
    await r.act(buyer, trade_id, SayPaid("sent"))
    await each(Paid)
    await r.act(seller, trade_id, SayReceived())
    await closed(r, trade_id, maker, taker)


async def closed(r: Rig, trade_id: bytes, *names: str) -> None:
    async def paid_out() -> None:
        r.poke()
        assert r.mempool()

    await r.eventually(paid_out)
    r.mine(6)
    for name in names:
        await r.until(name, trade_id, Closed)
        await proven(r, name, trade_id)


async def proven(r: Rig, name: str, trade_id: bytes) -> Receipt:
    """Wait until a node has its own receipt of a trade."""

    async def there() -> Receipt:
        await r[name].exchange.receipts.make()
        raw = r[name].exchange.receipts.raw(trade_id)
        assert raw, f"{name} has no receipt"
        return Receipt.from_wire(raw, NET)

    found: Receipt = await r.eventually(there)
    return found


async def aged(r: Rig, seconds: int = AGE_S) -> None:
    """Let time pass by the chain's clock."""
    r.mine(12, step=seconds // 6 + 600)
    await r.synced()
