import pytest

from firstseen import templates
from tests import vectors

# The three blocks of templates/template_test.go.
SAMPLE = templates.Block(
    chain=1, number=19000000, hash="0x" + "ab" * 32, parent="0x" + "cd" * 32, time=1705173443,
    fee_recipient="0x" + "11" * 20, gas_limit=30000000, gas_used=12345678, base_fee=15123456789,
    extra_data=b"geth/go1.21/linux", state_root="0x" + "ef" * 32,
    transactions=[
        templates.Transaction("0x" + "01" * 32, "0x" + "33" * 20, "0x" + "44" * 20, 10**18),
        templates.Transaction("0x" + "02" * 32, "0x" + "33" * 20, None, 0),
    ],
)  # fmt: skip
HOSTILE = b"<script>alert('x')</script> &\"\\+`{{.}}\x00\xff\xe2\x80\xae\xe2\x80\xa8\r\n\x1b[31m\x7f"
EMPTY = templates.Block(0, 0, "0x" + "00" * 32, "0x" + "00" * 32, 0, "0x" + "00" * 20, 0, 0, None, b"",
                        "0x" + "00" * 32, [])  # fmt: skip


def blocks() -> dict[str, templates.Block]:
    import dataclasses

    return {"sample": SAMPLE, "empty": EMPTY, "hostile": dataclasses.replace(SAMPLE, extra_data=HOSTILE)}


@pytest.mark.parametrize("kind", ["html", "json", "txt"])
@pytest.mark.parametrize("name", ["sample", "empty", "hostile"])
def test_bytes_are_those_of_go(name: str, kind: str) -> None:
    want = (vectors.ROOT / f"templates/testdata/{name}.{kind}").read_bytes()
    assert templates.DEFAULTS[f"block.{kind}"].render(blocks()[name]) == want
