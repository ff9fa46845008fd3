"""``vexctl token``: make, list and revoke the tokens that open a node's API."""

import argparse
import time
from typing import Any

from vexfs.cli import output, reach
from vexfs.config.kinds import Duration

_LIFETIME = Duration("1min", "3650d")


def register(subparsers: Any) -> None:
    """Add ``token`` and what is below it."""
    parser = subparsers.add_parser(
        "token", help="make, list and revoke API tokens",
        description="Tokens open a node's REST and WebSocket.  The node keeps only their hashes.",
        epilog="Example: vexctl token create ci --scope read --scope write --prefix /builds --expires 90d",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser(
        "create", help="make a token", description="Make a token and show it, once.",
        epilog="Example: vexctl token create grafana --scope watch",
    )  # fmt: skip
    create.add_argument("name", help="who it is for")
    create.add_argument("--scope", action="append", choices=("read", "write", "watch", "admin"),
                        help="what it allows; several may be given; default: read")  # fmt: skip
    create.add_argument("--prefix", action="append", metavar="PATH", help="only at and below this path of the volume")
    create.add_argument("--expires", metavar="TIME", type=_lifetime, help="as 12h or 90d; default: never")
    create.set_defaults(run=create_of)
    listing = actions.add_parser("list", help="show all tokens", description="Show all tokens, without secrets.",
                                 epilog="Example: vexctl token list")  # fmt: skip
    listing.set_defaults(run=list_of)
    revoke = actions.add_parser("revoke", help="revoke a token", description="Revoke a token, at once.",
                                epilog="Example: vexctl token revoke ci")  # fmt: skip
    revoke.add_argument("token", help="its id, or the name of all that are meant")
    revoke.set_defaults(run=revoke_of)
    for each in (create, listing, revoke):
        reach.add_options(each)


def _lifetime(word: str) -> float:
    try:
        return _LIFETIME.read(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{word!r}; must be {error}") from None


def create_of(args: argparse.Namespace) -> None:
    """Run ``token create``."""
    with reach.of(args) as node:
        told = node.call(
            "token.create", name=args.name, scopes=args.scope, prefixes=args.prefix, lifetime_s=args.expires
        ).result()
    output.emit(args, told, f"{told['token']}\nkeep it: it cannot be shown again")


def list_of(args: argparse.Namespace) -> None:
    """Run ``token list``."""
    with reach.of(args) as node:
        rows = node.call("token.list").result()
    output.emit(args, rows, lambda: output.table(
        ("id", "name", "state", "scopes", "prefixes", "created", "expires"),
        [(r["id"], r["name"], r["state"], " ".join(r["scopes"]), " ".join(r["prefixes"]), _date(r["created"]),
          _date(r["expires"])) for r in rows],
    ))  # fmt: skip


def _date(seconds: float | None) -> str:
    return "never" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def revoke_of(args: argparse.Namespace) -> None:
    """Run ``token revoke``."""
    with reach.of(args) as node:
        gone = node.call("token.revoke", token=args.token).result()
    output.emit(args, gone, "\n".join(f"revoked {token['id']} ({token['name']})" for token in gone))
