"""Log lines: text for people, or one JSON object each, escaped by the encoder so that no client forges a line."""

import logging
import os
import sys

from pythonjsonlogger.json import JsonFormatter

from api.settings import Settings
from api.telemetry import REQUEST_LOG
from api.tracing import current_ids

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _WithTrace(logging.Filter):
    """Adds the ids of the trace at hand, where there is one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        record.__dict__.update(current_ids())
        return True


def configure(settings: Settings, version: str) -> None:
    """Set the process's logging up; a line per request only where it is asked for."""
    handler = logging.StreamHandler(sys.stdout if settings.log_format == "json" else sys.stderr)
    handler.setFormatter(_json(version) if settings.log_format == "json" else logging.Formatter(TEXT))
    handler.addFilter(_WithTrace())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger(REQUEST_LOG).setLevel(logging.INFO if settings.log_requests else logging.WARNING)


def _json(version: str) -> logging.Formatter:
    static = {"service": "surrogates", "version": version, "pod": os.environ.get("HOSTNAME", "")}
    names = {"levelname": "level", "message": "event", "name": "logger", "exc_info": "traceback"}
    return JsonFormatter(["levelname", "name", "message"], rename_fields=names, static_fields=static, timestamp="time")
