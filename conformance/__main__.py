"""Holds an implementation to docs/WIRE.md: python3 -m conformance --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from conformance import clients, mutants, servers, table

_SERVER = (
    "starts a server named relay-1 on {address} with the SQLite file {database} as an empty store and 10 s to drain"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    sub = parser.add_subparsers(dest="subject", required=True)
    server = sub.add_parser("server", help="test a server")
    server.add_argument("--command", required=True, help=_SERVER)
    server.add_argument("--beside", default="", help="a command that runs beside it, with the same places")
    client = sub.add_parser("client", help="test a client")
    client.add_argument(
        "--command", default="", help="starts an observer of {node} that reports to {address}; {folder} is its own"
    )
    client.add_argument("--feeder", default="", help="or: starts a client that sends what it reads to {host} {port}")
    client.add_argument("--bare", default="", help="starts the observer in bare mode")
    spoiled = sub.add_parser("mutants", help="show that planted faults are noticed")
    spoiled.add_argument("--command", required=True, help=_SERVER)
    spoiled.add_argument("--beside", default="")
    mutant = sub.add_parser("mutant", help="run one server with a planted fault")
    for name in ("fault", "address", "inner"):
        mutant.add_argument(name, choices=list(mutants.SLUGS) if name == "fault" else None)
    mutant.add_argument("arguments", nargs=argparse.REMAINDER)
    for p in (server, client, spoiled):
        p.add_argument("--title", default="")
        p.add_argument("--only", default="", help="only the checks whose name holds this")
        p.add_argument("--workers", type=int, default=4, help="checks at once")
    return parser


def main() -> int:
    """Run what the command line asks for; 1 if something was missed."""
    args = _parser().parse_args()
    if args.subject == "mutant":
        return mutants.main(args.fault, args.address, args.inner, args.arguments)
    if args.subject == "mutants":
        return _mutants(args)
    if args.subject == "server":
        checks = servers.checks(args.command, args.beside)
    else:
        checks = clients.checks("observer", args.command) if args.command else []
        checks += clients.checks("feeder", args.feeder) if args.feeder else []
        checks += clients.bare(args.bare) if args.bare else []
    return 0 if _run(args.title or args.subject, checks, args) else 1


def _run(title: str, checks: Sequence[table.Check], args: argparse.Namespace) -> bool:
    chosen = [c for c in checks if args.only in c.name]
    return table.show(title, table.run(chosen, args.workers))


def _mutants(args: argparse.Namespace) -> int:
    """Run against each fault the check that is there for it: it has to miss."""
    checks = []
    for slug, fault in mutants.SLUGS.items():
        named = {c.name: c for c in servers.checks(mutants.wrap(slug, args.command), args.beside)}
        if fault == mutants.NOTHING:
            checks += [named[name] for name in dict.fromkeys(mutants.FAULTS.values())]
        else:
            checks.append(table.Check(fault, table.inverted(named[mutants.FAULTS[fault]])))
    title = args.title or "planted faults are noticed, and the same server without them passes"
    return 0 if _run(title, checks, args) else 1


if __name__ == "__main__":
    sys.exit(main())
