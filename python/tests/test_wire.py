import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from firstseen import fields, wire
from tests import vectors

VECTORS = vectors.load("schema/testdata/wire.json")


def tx(t: wire.Transaction) -> dict[str, Any]:
    summary = dataclasses.asdict(t) | {"from": t.sender, "value": str(t.value)}
    del summary["sender"]
    return summary


def fields_of(kind: str, content: bytes) -> Any:
    match kind:
        case "hello":
            hello = dataclasses.asdict(wire.parse_hello(content))
            return {k: list(v) if isinstance(v, tuple) else v for k, v in hello.items()}
        case "welcome":
            return dataclasses.asdict(wire.parse_welcome(content))
        case "data":
            o, payload = wire.parse_data(content)
            observation = dataclasses.asdict(o) | {
                "header": "0x" + o.header.hex(),
                "observed_at": fields.rfc3339(o.observed_at),
                "transactions": [tx(t) for t in o.transactions],
            }
            del observation["raw"]
            return {"observation": observation, "payload_hex": payload.hex(), "raw_hex": o.raw.hex()}
        case "status":
            return wire.parse_status(content)
        case "ack":
            n, flags = wire.parse_ack(content)
            return {"n": n, "flags": flags}
        case "refusal":
            return dataclasses.asdict(wire.parse_refusal(content))
        case "fatal":
            return dataclasses.asdict(wire.parse_fatal(content))
        case "drain":
            return {"ms": wire.parse_drain(content)}
        case _:
            wire.parse_alone(content, {"ping": b"P", "pong": b"O", "bye": b"B"}[kind])
            return {}


ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "hello": lambda c: wire.hello(wire.parse_hello(c)),
    "welcome": lambda c: wire.welcome(wire.parse_welcome(c)),
    "data": lambda c: wire.data(*wire.parse_data(c)),
    "status": lambda c: wire.status(wire.parse_status(c)),
    "ack": lambda c: wire.ack(*wire.parse_ack(c)),
    "refusal": lambda c: wire.refusal(wire.parse_refusal(c)),
    "fatal": lambda c: wire.fatal(wire.parse_fatal(c)),
    "drain": lambda c: wire.drain(wire.parse_drain(c)),
}


def canonical(value: Any) -> Any:
    """Forget what absent, null and empty lists differ in, and what this parser leaves to its caller."""
    if isinstance(value, dict):
        return {k: canonical(v) for k, v in value.items() if v not in (None, [], "", b"")}
    return [canonical(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda c: c["type"] + ": " + c["name"])
def test_good(case: dict[str, Any]) -> None:
    content = bytes.fromhex(case["hex"])
    got, want = fields_of(case["type"], content), case["fields"]
    if case["type"] != "status":  # its JSON is kept as it came
        assert canonical(got) == canonical(want)
    if case.get("canonical") and case["type"] in ENCODE:
        assert ENCODE[case["type"]](content) == content


def test_a_frame_without_its_raw_part_is_the_one_that_never_had_it() -> None:
    plain = bytes.fromhex(next(c["hex"] for c in VECTORS["good"] if c["name"] == "least" and c["type"] == "data"))
    o, payload = wire.parse_data(plain)
    with_raw = wire.data(dataclasses.replace(o, raw=b'raw\n"raw":1'), payload)
    assert wire.parse_data(with_raw)[1] == payload
    assert wire.without_raw(with_raw) == wire.without_raw(plain) == plain


@pytest.mark.parametrize("case", VECTORS["bad"], ids=lambda c: c["type"] + ": " + c["name"])
def test_bad(case: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError) as refused:
        fields_of(case["type"], bytes.fromhex(case["hex"]))
    assert refused.value.code == case["code"]
    assert wire.clean(refused.value.text) == refused.value.text
