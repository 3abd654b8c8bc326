"""Times on the wire: RFC 3339 in UTC, hours since 1970-01-01T00:00Z inside."""

from datetime import UTC, datetime, timedelta

from models.errors import WrongType

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXPECTED = "an RFC 3339 time with its offset, such as 2016-03-01T12:00:00Z"


def decode(name: str, value: object) -> float:
    """Hours since 1970 of one time.

    Raises WrongType.
    """
    if not isinstance(value, str):
        raise WrongType(name, EXPECTED, type(value).__name__)
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise WrongType(name, EXPECTED, repr(value)[:60]) from error
    if time.tzinfo is None:
        raise WrongType(name, EXPECTED, f"{value!r} without an offset")
    return (time - EPOCH) / timedelta(hours=1)


def encode(hours: float) -> str:
    """The time as RFC 3339, to the second."""
    time = EPOCH + timedelta(seconds=round(hours * 3600.0))
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
