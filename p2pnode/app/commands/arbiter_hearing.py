"""`p2pnode arbiter queue`, `decide`, `recuse`, `chat`, `evidence`: hearing a case."""

import base64
import hashlib
import os
from pathlib import Path
from typing import Any, Final

import click

from p2pnode.app.commands.frame import (
    Session,
    coins,
    common,
    entry,
    hanging,
    hex_prefix,
    plain,
)
from p2pnode.app.commands.trade_talk import checked, conversation
from p2pnode.app.commands.trade_view import btc, fiat, proofs
from p2pnode.base.errors import InvalidRecord, LocalFault, NodeError, StorageFault
from p2pnode.base.units import moment, parse_decimal

_QUEUE: Final = f"{'CASE':<10} {'LEFT':>6} {'STATE':<8} {'BTC':>12} {'FIAT':>16}  DUE"
_FILES: Final = f"{'FILE':<12} {'FROM':<7} {'BYTES':>9}  {'PARTS':<9} NAME"
_DAY: Final = 86_400
_TOLD: Final = {
    "account_seller": "to pay to",
    "account_buyer": "paid from",
    "paid_note": "reference",
}


def path(case: str, verb: str = "") -> str:
    """Return the API's path of a case. Raises InvalidRecord for what cannot be its id."""
    return f"/v1/cases/{hex_prefix('case', case)}{verb}"


def left(seconds: int) -> str:
    """Write how much time is left: days, below one hours."""
    if seconds <= 0:
        return "over"
    return f"{seconds // _DAY} d" if seconds >= _DAY else f"{seconds // 3600} h"


# ------------------------------------------------------------------ reading


@click.command()
@common
def queue(session: Session) -> None:
    r"""List what you must rule on, soonest due first.

    \b
    p2pnode arbiter queue
    p2pnode arbiter queue --json | jq -r 'select(.lacking==[]).trade_id'
    """

    def row(c: dict[str, Any]) -> str:
        due = next((d["by_mtp"] for d in c["due"] if d["what"] == "ruling"), 0)
        time_left = left(due - c["mtp"]) if due and "mtp" in c else "?"
        line = (
            f"{c['trade_id'][:8]:<10} {time_left:>6} {c['state']:<8} "
            f"{btc(c['amount_sat']):>12} {fiat(c):>16}  {moment(due) if due else ''}"
        ).rstrip()
        lacks = [hanging(f"{'':<10} lacks: ", one) for one in c["lacking"]]
        return "\n".join([line, *lacks, hanging(f"{'':<10} next: ", c["next"])])

    session.emit_rows(session.client.get("/v1/queue"), _QUEUE, row, "nothing to rule on")


@click.command()
@common
@click.argument("case")
def show(session: Session, case: str) -> None:
    r"""Show one case with its statements.

    Contract, draw and message chains were checked before it got here; --json adds the list
    of the papers that each trader has shown.

    \b
    p2pnode arbiter show 7f3a91
    """
    show_case(session, session.client.get(path(case)))


def show_case(session: Session, c: dict[str, Any]) -> None:
    """Show a case: who said what, what is lacking, what to do next and by when."""
    deposits = f"buyer {coins(c['deposit_buyer_sat'])}, seller {coins(c['deposit_seller_sat'])} BTC"
    runner_up = ", as runner-up" if c["runner_up"] else ""
    lines = [
        f"Case {c['trade_id'][:8]}   {c['state']}, opened by the {c['opener']}{runner_up}",
        entry("trade", f"{btc(c['amount_sat'])} BTC for {fiat(c)}"),
        entry("escrow", f"{btc(c['escrow_sat'])} BTC, your fee {coins(c['fee_sat'])} BTC"),
        entry("deposits", deposits),
        *(entry(head, c[name]) for name, head in _TOLD.items() if c.get(name)),
        entry("buyer", c["statement_buyer"] or "(no statement yet)"),
        entry("seller", c["statement_seller"] or "(no statement yet)"),
    ]
    if c["files_buyer"] or c["files_seller"]:
        count = f"{c['files_buyer']} of the buyer, {c['files_seller']} of the seller"
        lines.append(entry("files", f"{count}: p2pnode arbiter evidence {c['trade_id'][:8]}"))
    if c["signed_twice"]:
        both = " and the ".join(c["signed_twice"])
        lines.append(entry("beware", f"the {both} signed two different messages of one number"))
    lines += proofs(c)
    if "buyer_sat" in c:
        shares = f"buyer {btc(c['buyer_sat'])}, seller {btc(c['seller_sat'])}"
        lines.append(entry("verdict", f"{shares}, you {btc(c['fee_sat'])} BTC"))
    else:
        lines += _dates(c)
    told = "time: " if "buyer_sat" not in c else ""  # _dates has said it in BTC
    lines += [entry("lacks", one) for one in c["lacking"] if not told or not one.startswith(told)]
    if c["note"]:
        lines.append(entry("note", c["note"]))
    session.emit(c, *lines, entry("next", c["next"]))


def _dates(c: dict[str, Any]) -> list[str]:
    if "mtp" not in c or not c["due"]:
        return []
    lines = [entry("chain", f"{moment(c['mtp'])} by its clock; the dates below go by it")]
    for due in c["due"]:
        time_left = left(due["by_mtp"] - c["mtp"])
        lines.append(entry(due["what"], f"by {moment(due['by_mtp'])} ({time_left})"))
    release = coins(c["amount_sat"] + c["deposit_buyer_sat"])
    since = moment(c["below_release_from_mtp"])
    lines.append(entry("", f"under {release} BTC for the buyer not before {since}"))
    return lines


# ------------------------------------------------------------------ ruling


@click.command()
@common
@click.argument("case")
@click.option("--buyer", required=True, metavar="BTC", help="What the buyer gets of the escrow.")
@click.option("--reason", required=True, help="Why; both traders read it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def decide(session: Session, case: str, buyer: str, reason: str, yes: bool) -> None:
    r"""Rule on a case.

    So much of the escrow to the buyer, your fee to you, the rest to the seller; either of
    them can then take it to the chain. You see what it pays before you are asked, and why it
    is refused if it is. It is final.

    \b
    p2pnode arbiter decide 7f3a91 --buyer 0.0015 --reason "No payment was shown."
    """
    hex_prefix("case", case)
    buyer_sat = parse_decimal("buyer", buyer, 8)
    found = session.client.get(path(case))
    most = found["escrow_sat"] - found["fee_sat"]
    if buyer_sat > most:
        raise InvalidRecord("buyer", f"there are {coins(most)} BTC to divide")
    seen = session.client.get(path(case, f"/preview?buyer_sat={buyer_sat}"))
    session.remark("\n".join(preview(seen)))
    if seen["refused"]:
        raise LocalFault(f"buyer: {seen['refused']}", field="buyer")
    session.confirm("Sign this verdict? It is final.", yes)
    answer = session.client.post(path(case, "/decide"), buyer_sat=buyer_sat, reason=reason)
    show_case(session, answer)


def preview(seen: dict[str, Any]) -> list[str]:
    """Write what a ruling would pay, at each of its rates."""

    def shares(split: dict[str, Any]) -> str:
        return (
            f"buyer {btc(split['buyer_sat'])}, seller {btc(split['seller_sat'])}, "
            f"you {btc(split['arbiter_sat'])} BTC"
        )

    lines = [entry("split", shares(seen))]
    for paid in seen["payouts"]:
        lines.append(entry(f"{paid['rate']} sat/vB", shares(paid)))
        lines.append(entry("", f"network fee {paid['fee_sat']} sat"))
    return lines


@click.command()
@common
@click.argument("case")
@click.option("--reason", required=True, help="Why; both traders read it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def recuse(session: Session, case: str, reason: str, yes: bool) -> None:
    r"""Declare that you will not judge a case.

    The traders may agree at once; else the runner-up hears them once the timelock is over.
    It cannot be taken back.

    \b
    p2pnode arbiter recuse 7f3a91 --reason "The seller is my brother."
    """
    session.confirm("Judge this case not, for good?", yes)
    show_case(session, session.client.post(path(case, "/recuse"), reason=reason))


# ------------------------------------------------------------------ talk and files


@click.command()
@common
@click.argument("case")
@click.argument("text", required=False)
@click.option("--to", "side", type=click.Choice(("buyer", "seller")), help="Which trader.")
def chat(session: Session, case: str, text: str | None, side: str | None) -> None:
    r"""Say TEXT to a trader, or show what was said.

    \b
    p2pnode arbiter chat 7f3a91
    p2pnode arbiter chat 7f3a91 --to buyer "Please show the bank's receipt."
    """
    where = path(case, "/chat")
    query = f"{where}?to={side}" if side else where
    if text is None:
        conversation(session, session.client.get(query), "nothing was said in this case")
        return
    if side is None:
        raise click.UsageError("say to whom: --to buyer or --to seller.")
    session.client.post(where, text=checked("text", text), to=side)
    said = session.client.get(query)
    conversation(session, [s for s in said[:-1] if s["unread"]] + said[-1:], "")


@click.command()
@common
@click.argument("case")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write the files there."
)
def evidence(session: Session, case: str, out: Path | None) -> None:
    r"""List the files that were shown, or write them out.

    Each is checked against its hash first. Names are ours: the hash, then what is harmless of
    the sender's; nothing is overwritten. Open them as you would a stranger's files.

    \b
    p2pnode arbiter evidence 7f3a91
    p2pnode arbiter evidence 7f3a91 --out case-7f3a91
    """
    files = session.client.get(path(case, "/evidence"))
    if out is None:
        session.emit_rows(files, _FILES, _file, "no files were shown in this case")
        return
    try:
        out.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageFault(f"out: {out}: {error.strerror}", field="out") from None
    trouble: NodeError | None = None
    for file in files:
        if not file["complete"]:
            session.remark(
                f"{plain(file['name'])}: only {_parts(file)} parts are here, not written"
            )
            continue
        try:
            whole = session.client.get(path(case, f"/evidence/{file['file_hash']}"))
            written = write_file(out, whole)
        except NodeError as error:
            session.remark(f"{plain(file['name'])}: {error}")
            trouble = error
            continue
        session.emit(file | {"path": str(written)}, str(written))
    if trouble is not None:
        raise trouble


def _parts(file: dict[str, Any]) -> str:
    return f"{file['parts_here']} of {file['parts']}"


def _file(f: dict[str, Any]) -> str:
    head = f"{f['file_hash'][:12]} {f['side']:<7} {f['size']:>9,}  {_parts(f):<9} "
    return head + plain(f["name"])


def write_file(out: Path, file: dict[str, Any]) -> Path:
    """Write one file below `out`, never over another; one that is there already stays.

    Raises InvalidRecord for data of another hash or a name that is not one, LocalFault for
    another file of that name, StorageFault.
    """
    data, name = base64.b64decode(file["data"]), file["export_name"]
    if hashlib.sha256(data).hexdigest() != file["file_hash"]:
        raise InvalidRecord("file", "is not what its hash names: it is not written")
    if Path(name).name != name or name in {"", ".", ".."}:
        raise InvalidRecord("export_name", "is not the name of a file")
    target: Path = out / name
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(target, flags, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    except FileExistsError:
        if target.is_symlink() or not target.is_file() or target.read_bytes() != data:
            raise LocalFault(
                f"out: {target} is there already and is another file: name another directory",
                field="out",
            ) from None
    except OSError as error:
        raise StorageFault(f"out: {target}: {error.strerror}", field="out") from None
    return target
