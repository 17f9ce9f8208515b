"""Logs as JSON lines on the standard error."""

from __future__ import annotations

import datetime as dt
import logging
import sys

import msgspec

# Fields that every record has.
OWN = set(vars(logging.makeLogRecord({}))) | {"message"}
# Have Granian's loggers pass their records on.
GRANIAN = {"formatters": {}, "handlers": {}, "loggers": {"_granian": {"propagate": True}}}


class Lines(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        when = dt.datetime.fromtimestamp(record.created, tz=dt.UTC)
        line = {"time": when.isoformat(timespec="milliseconds"), "level": record.levelname.lower()}
        line |= {"logger": record.name, "message": record.getMessage()}
        line |= {key: value for key, value in vars(record).items() if key not in OWN}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(level: str = "INFO") -> None:
    """Send every logger's records to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
