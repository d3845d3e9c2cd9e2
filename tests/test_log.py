"""What reaches stderr: readable, one line per event, no secret."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from runner.log import configure_logging

SECRETS = ("sk_live_51Secret", "s3cret", "whsec_hidden")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, excepthook = logging.getLogger(), sys.excepthook
    handlers, level, stripe_level = root.handlers[:], root.level, logging.getLogger("stripe").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("stripe").setLevel(stripe_level)
    structlog.reset_defaults()
    sys.excepthook = excepthook


def test_json_lines_carry_level_time_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")

    structlog.get_logger().info("claimed", rows=3, worker="a:1")

    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "claimed", "level": "info", "rows": 3, "worker": "a:1"}


def test_nothing_goes_to_stdout_and_nothing_below_the_level_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", "json")

    structlog.get_logger().info("not shown")
    logging.getLogger("somebody").info("not shown either")
    structlog.get_logger().warning("shown")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line)["event"] for line in captured.err.splitlines()] == ["shown"]


def _fail_with(key: str) -> None:
    raise ValueError(f"refused: {key}")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_masked_in_values_in_depth_and_in_tracebacks(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", "json" if log_format == "json" else "console")
    log = structlog.get_logger()

    log.info("key sk_live_51Secret", url="postgresql://app:s3cret@db/shop", deep={"list": ["whsec_hidden"]})
    log.error("failed", error=ValueError("password=s3cret"))
    try:
        _fail_with("sk_live_51Secret")
    except ValueError:
        log.exception("crashed")
        logging.getLogger("a.library").exception("crashed with %s", "postgresql://app:s3cret@db/shop")

    shown = capsys.readouterr().err
    assert not [secret for secret in SECRETS if secret in shown]
    assert shown.count("ValueError: refused: sk_live_***") == 2
    assert "postgresql://app:***@db/shop" in shown
    assert "test_log.py" in shown


def test_values_cannot_drive_the_terminal_or_forge_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "console")

    structlog.get_logger().info("said", words="\x1b[2Jgone\x07\n2026-01-01 [info] forged")

    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert len(shown.splitlines()) == 1


def test_huge_values_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")

    structlog.get_logger().info("said", words="x" * 10_000_000)

    assert len(capsys.readouterr().err) < 3_000


def test_the_sdk_does_not_log_its_requests(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")

    logging.getLogger("stripe").info("message='Request to Stripe api'")
    logging.getLogger("stripe").warning("shown")

    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["shown"]


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    configure_logging("info", "json")

    structlog.get_logger().info("once")

    assert len(capsys.readouterr().err.splitlines()) == 1
