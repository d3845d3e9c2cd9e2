"""Logging to stderr: for people on a terminal, as JSON lines elsewhere, with no secret in either."""

import logging
import sys
from types import TracebackType
from typing import Literal

import structlog

from runner.clean import clean_json, safe_text

LogFormat = Literal["console", "json"]

_TEXT_LIMIT = 2_000
_TRACEBACK_LINE_LIMIT = 500
_TRACEBACK_LINES = 200


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Send what structlog and the standard library log at `level` or above to stderr; may be called again.

    `level` is a name of the standard library's, in any case.
    """
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # Records of libraries join here, so that the same cleaning holds for them.
            foreign_pre_chain=[structlog.stdlib.add_log_level, stamp],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                make_safe,
                _renderer(log_format),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Stripe's SDK logs every request at INFO, with texts as they came.
    logging.getLogger("stripe").setLevel(max(logging.WARNING, logging.getLogger().level))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            stamp,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _log_crash


def _log_crash(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    # The interpreter would print the exception's text as it is.
    structlog.get_logger().critical("crashed", exc_info=(kind, error, traceback))


def make_safe(_logger: object, _method: str, event_dict: structlog.types.EventDict) -> structlog.types.EventDict:
    """Mask secrets and clean texts in every value of a log line; a traceback keeps its lines."""
    safe: structlog.types.EventDict = {}
    for key, value in event_dict.items():
        if key == "exception" and isinstance(value, str):
            lines = value.splitlines()[-_TRACEBACK_LINES:]
            safe[key] = "\n".join(safe_text(line, _TRACEBACK_LINE_LIMIT) for line in lines)
        else:
            safe[key] = clean_json(value, text_limit=_TEXT_LIMIT, clean=safe_text)
    return safe


def _renderer(log_format: LogFormat) -> structlog.types.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        # The pretty ones print local variables, and those hold keys.
        exception_formatter=structlog.dev.plain_traceback,
    )
