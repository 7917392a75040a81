"""Settings: flags over environment over defaults, with the names that the Go binary has."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

# Names that other software has made customary. They rank below FIRSTSEEN_*.
_USUAL: Final = {"db": "DATABASE_URL", "redis": "REDIS_URL", "client.node": "ETH_RPC_URL"}


def variable(key: str) -> str:
    """Return the environment's name of a key: FIRSTSEEN_SECTION__KEY."""
    return "FIRSTSEEN_" + key.upper().replace(".", "__")


def from_environment(key: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return what the environment says of a key: itself, a file that holds it, or its customary name."""
    name = variable(key)
    if path := environ.get(name + "_FILE"):
        if environ.get(name):
            raise click.UsageError(f"{name} and {name}_FILE are both set: use one")
        try:
            return Path(path).read_text().strip()
        except OSError as e:
            raise click.UsageError(f"{name}_FILE: {e}") from None
    return environ.get(name) or environ.get(_USUAL.get(key, ""))


def option(flag: str, key: str, **settings: Any) -> Callable[[F], F]:
    """Declare a flag with its key in the environment."""
    multiple = settings.get("multiple", False)
    default = settings.pop("default", None)

    def value() -> Any:
        found = from_environment(key)
        if found is None:
            return default
        return [part.strip() for part in found.split(",")] if multiple else found

    return click.option(flag, default=value, show_default=str(default) if default not in (None, "", ()) else False,
                        **settings)  # fmt: skip


_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType[float]):
    """A duration as Go writes it: 1s, 500ms, 1h30m. Its value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Implement click.ParamType."""
        if isinstance(value, float):
            return value
        parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", str(value))
        if not parts or "".join(n + u for n, u in parts) != str(value):
            self.fail(f"{value}: use a duration, as in 1s or 500ms", param, ctx)
        return sum(float(n) * _UNITS[u] for n, u in parts)


def address(text: str) -> tuple[str, int]:
    """Read host:port."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise click.UsageError(f"{text!r} is not host:port")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an empty host asks for all of them


def host_name() -> str:
    """Return this machine's name as one that an observer or server may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "unnamed"
