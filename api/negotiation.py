"""The Accept header: media ranges with their parameters, the most wanted first (RFC 9110, section 12.5.1)."""

from collections.abc import Mapping


def media_ranges(header: str) -> list[tuple[str, dict[str, str]]]:
    """(type, parameters) by falling weight; without what has none, which is not wanted at all."""
    found = [_parsed(part) for part in header.split(",") if part.strip()] or [("*/*", {})]
    wanted = [item for item in found if _weight(item[1]) > 0.0]
    return sorted(wanted, key=lambda item: -_weight(item[1]))


def _parsed(part: str) -> tuple[str, dict[str, str]]:
    kind, *rest = part.strip().lower().split(";")
    pairs = (item.partition("=") for item in rest)
    return kind.strip(), {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _weight(parameters: Mapping[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
