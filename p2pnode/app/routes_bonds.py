"""The local API's verbs for an arbiter's bonds, and for pausing his record."""

from typing import Any

from escrow.bond import bond_script
from escrow.contract import MAX_RATE
from escrow.shell_bond import Held
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.base import address
from p2pnode.base.errors import UsageFault
from p2pnode.base.transaction import display


def routes(exchange: Exchange) -> list[Route]:
    """Return the routes of bonds."""
    b, one = _Bonding(exchange), "/v1/bonds/{number}"
    return [
        Route("POST", "/v1/arbiter/pause", b.pause, summary="Put one's record no more"),
        Route("POST", "/v1/arbiter/resume", b.resume, summary="Put it again"),
        Route("GET", "/v1/bonds", b.list, summary="One's bonds, the oldest first"),
        Route("POST", "/v1/bonds", b.create, once=True, summary="Lock bitcoin as a bond"),
        Route("GET", f"{one}/proof", b.proof, summary="What proves a bond to anybody"),
        Route("POST", "/v1/bonds/renew", b.renew, once=True, summary="Lock again"),
        Route("POST", "/v1/bonds/recover", b.recover, summary="Find a bond again by its proof"),
        Route("POST", "/v1/bonds/redeem", b.redeem, once=True, summary="Take expired bonds out"),
    ]


class _Bonding:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._world = exchange, exchange.world

    # -- the record

    async def pause(self, call: Call) -> dict[str, Any]:
        self._exchange.arbiter.pause()
        return self._record()

    async def resume(self, call: Call) -> dict[str, Any]:
        await self._exchange.arbiter.resume()
        return self._record()

    def _record(self) -> dict[str, Any]:
        arbiter = self._exchange.arbiter
        answer: dict[str, Any] = {"paused": arbiter.paused(), "holders": arbiter.holders()}
        if (until := arbiter.drawable_until()) is not None:
            answer |= {"drawable_until_height": until, "height": self._world.chain.tip().height}
        return answer

    # -- bonds

    async def list(self, call: Call) -> list[dict[str, Any]]:
        return [self._json(held) for held in await self._exchange.bonds.all()]

    async def create(self, call: Call) -> dict[str, Any]:
        bonds, sat = self._exchange.bonds, call.integer("amount_sat")
        return self._json(await bonds.create(sat, self._lock(call), _rate(call)))

    async def renew(self, call: Call) -> dict[str, Any]:
        sat = call.integer("amount_sat", 0)
        redemption = self._exchange.redemption
        return self._json(await redemption.renew(self._lock(call), sat or None, _rate(call)))

    async def recover(self, call: Call) -> dict[str, Any]:
        bonds = self._exchange.bonds
        return self._json(await bonds.recover(call.integer("number"), call.integer("lock_time")))

    async def redeem(self, call: Call) -> dict[str, Any]:
        done = await self._exchange.redemption.redeem(_rate(call))
        return {
            "txid": display(done.tx.txid),
            "amount_sat": done.value,
            "fee_sat": done.fee_sat,
            "outputs": len(done.coins),
        }

    async def proof(self, call: Call) -> dict[str, Any]:
        held = await self._exchange.bonds.one(call.integer("number"))
        bond = await self._exchange.bonds.proof(held)
        return {
            "outpoint": str(held.coin.outpoint) if held.coin else "",
            "amount_sat": bond.value,
            "lock_time": bond.lock_time,
            "bond_key": bond.key.hex(),
            "script": bond_script(bond.lock_time, bond.key).hex(),
            "address": self._address(held),
            "transaction": bond.transaction.hex(),
            "height": bond.height,
            "position": bond.position,
            "branch": [other.hex() for other in bond.branch],
            "key_path": f"m/8383h/{self._world.network.coin_type}h/3h/{held.number}h",
        }

    def _lock(self, call: Call) -> int:
        """Return the lock time asked for by `lock_days` or `until`. Raises UsageFault."""
        days, until = call.integer("lock_days", 0), call.integer("until", 0)
        if (days > 0) == (until > 0):
            raise UsageFault("lock_days, until: name one of the two", field="lock_days")
        return self._exchange.bonds.lock_until(days or None, until or None)

    def _address(self, held: Held) -> str:
        return address.encode(self._world.network.hrp, held.script)

    def _json(self, held: Held) -> dict[str, Any]:
        state, note = self._exchange.bonds.standing(held)
        mtp = self._world.chain.tip().mtp
        plain: dict[str, Any] = {
            "number": held.number,
            "state": state,
            "note": note,
            "amount_sat": held.value or held.sat,
            "lock_time": held.lock_time,
            "drawable_until_mtp": held.lock_time - self._world.network.bond_lock_s,
            "address": self._address(held),
            "mtp": mtp,
        }
        if held.txid:
            plain["txid"] = display(held.txid)
        if held.coin is not None:
            plain |= {
                "outpoint": str(held.coin.outpoint),
                "height": held.height,
                "weight": held.weight(mtp),
            }
        return plain


def _rate(call: Call) -> int | None:
    named = call.integer("rate", 0)
    if not 0 <= named <= MAX_RATE:
        raise UsageFault(f"rate: is not 1 to {MAX_RATE} sat/vB", field="rate")
    return named or None
