from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from firstseen import cli, config
from firstseen.server import shown


def test_the_environment_has_the_names_of_the_go_binary(tmp_path: Path) -> None:
    assert config.from_environment("server.listen", {"FIRSTSEEN_SERVER__LISTEN": ":1"}) == ":1"
    assert config.from_environment("db", {"DATABASE_URL": "a", "FIRSTSEEN_DB": "b"}) == "b"
    assert config.from_environment("db", {"DATABASE_URL": "a"}) == "a"
    secret = tmp_path / "db"
    secret.write_text("mysql://x\n")
    assert config.from_environment("db", {"FIRSTSEEN_DB_FILE": str(secret)}) == "mysql://x"
    with pytest.raises(click.UsageError):
        config.from_environment("db", {"FIRSTSEEN_DB_FILE": str(secret), "FIRSTSEEN_DB": "b"})


def test_durations_are_those_of_go() -> None:
    duration = config.Duration()
    assert [duration.convert(t, None, None) for t in ("1s", "500ms", "1h30m", "1.5s")] == [1, 0.5, 5400, 1.5]
    for bad in ("1", "5 s", "s", ""):
        with pytest.raises(click.BadParameter):
            duration.convert(bad, None, None)


def test_addresses() -> None:
    assert config.address(":9999") == ("0.0.0.0", 9999)
    assert config.address("[::1]:1") == ("::1", 1)
    for bad in ("9999", "a:b", "a:70000"):
        with pytest.raises(click.UsageError):
            config.address(bad)


def test_usage_errors_exit_with_2() -> None:
    for args in (["--use-redis"], ["--use-mysql", "--mysql-host", "h"], ["--name", "a/b"], ["--listen", "x"]):
        result = CliRunner().invoke(cli.main, ["server", *args])
        assert result.exit_code == 2, result.output
    assert cli.demo_mysql("h", "u", "p@/", "d") == "mysql://u:p%40%2F@h:3306/d"


def test_payloads_are_printed_on_one_line() -> None:
    assert shown(b"<p>1</p>\n\x1b[31m\xff\xc3\xa9") == "<p>1</p>\\n\\x1b[31m\\xffé"
