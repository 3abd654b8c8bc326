"""Every error of the domain; knows nothing of HTTP.

SurrogateError
├── InvalidInput                a request that cannot be used as it is
│   ├── UnknownField
│   ├── MissingField
│   ├── WrongShape
│   ├── WrongType
│   ├── NotFinite
│   ├── OutOfRange
│   ├── MalformedArray
│   ├── UnsupportedLevel
│   ├── UnknownOption
│   ├── SeedTaken
│   └── TooLarge
├── UnknownModel
├── UnknownVersion
├── NotOffered                  the model has no such explanation, solver or bound
├── ToleranceNotMet             the error cannot be brought, or shown, to be as small as asked
├── BrokenBundle                files that are not what their manifest says
├── InvalidOutput               numbers of a model that cannot be handed out
├── NotEnabled                  something the operator has not switched on
├── Unauthenticated             nobody the service knows
├── OutOfScope                  somebody it knows, who may not do this
├── Unavailable                 not now: `retry_after` says when to come back
│   ├── Overloaded              as much is waiting as may wait
│   └── QuotaSpent              the client has asked as often as it may
└── Ended                       work that nobody waits for any more
    ├── DeadlinePassed
    └── Abandoned               the client has gone away

Each carries `field` (public name, or None), `expected`, `got` and `remedy`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

LONGEST = 300  # characters of what a request sent that an error repeats


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


class SurrogateError(Exception):
    """Root: says what was expected, what came and the remedy; of what came, and of its name, no more than can be read."""

    def __init__(self, expected: str, got: str, remedy: str, field: str | None = None) -> None:
        got = _shortened(got)
        field = None if field is None else _shortened(field)
        self.expected, self.got, self.remedy, self.field = expected, got, remedy, field
        super().__init__(f"Expected {expected}, got {got}. {remedy}")


class InvalidInput(SurrogateError):
    """A request that cannot be used as it is."""


class UnknownField(InvalidInput):
    """A field the model does not have."""

    def __init__(self, field: str, known: Iterable[str]) -> None:
        super().__init__(f"one of the fields {', '.join(known)}", f"'{field}'", "Remove or rename the field.", field)


class MissingField(InvalidInput):
    """A required field is absent."""

    def __init__(self, field: str) -> None:
        super().__init__(f"the field '{field}'", "nothing", "Add it; GET …/example returns a valid body.", field)


class WrongShape(InvalidInput):
    """Wrong rank, wrong size, or rows of unequal length."""

    def __init__(self, field: str, expected: str, got: str) -> None:
        super().__init__(expected, got, "Send the shape given in the model's description.", field)


class WrongType(InvalidInput):
    """Something that is not a number where a number must be, or an unsupported dtype."""

    def __init__(self, field: str, expected: str, got: str) -> None:
        super().__init__(expected, got, "Send a value of the type expected.", field)


class NotFinite(InvalidInput):
    """NaN or infinity."""

    def __init__(self, field: str, count: int, first: str) -> None:
        super().__init__("finite numbers", f"{count} not finite, first at {first}", "Fill or drop them.", field)


class OutOfRange(InvalidInput):
    """A value outside its declared range."""

    def __init__(self, field: str, expected: str, got: str) -> None:
        remedy = "Correct the values or their unit, or choose a model with a wider range."
        super().__init__(f"{field} {expected}", got, remedy, field)


class MalformedArray(InvalidInput):
    """Base64, NPY or JSON data that cannot be read as an array."""

    def __init__(self, field: str, expected: str, got: str, remedy: str = "Encode the array again.") -> None:
        super().__init__(expected, got, remedy, field)


class UnsupportedLevel(InvalidInput):
    """A coverage level outside (0, 1) or beyond the calibration size."""

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        super().__init__(expected, got, remedy, "level")


class UnknownOption(InvalidInput):
    """An option, or a value of one, that does not exist."""

    def __init__(self, field: str, expected: str, got: str) -> None:
        super().__init__(expected, got, "See the API documentation for the options.", field)


class SeedTaken(InvalidInput):
    """A seed that a bundle was made with: cases would not be fresh."""

    def __init__(self, seed: int, seeds: Mapping[str, int]) -> None:
        listed = ", ".join(f"{name} {value}" for name, value in seeds.items())
        super().__init__(f"a seed the bundle was not made with ({listed})", str(seed), "Choose another seed.", "seed")


class TooLarge(InvalidInput):
    """More data than the limit, which may be a `setting` of the service; found before memory is taken."""

    def __init__(self, field: str, expected: str, got: str, setting: str = "") -> None:
        remedy = f"Split the request, or have {setting} raised." if setting else "Split the request."
        super().__init__(expected, got, remedy, field)


class UnknownModel(SurrogateError):
    """No model of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        listed = ", ".join(known) or "none"
        super().__init__(f"a model among: {listed}", f"'{name}'", "GET /v1/models lists what is served.", "name")


class UnknownVersion(SurrogateError):
    """The model has no such version."""

    def __init__(self, name: str, version: str, known: Iterable[str]) -> None:
        super().__init__(f"a version of {name} among: {', '.join(known)}", f"'{version}'", "Choose one.", "version")


class NotOffered(SurrogateError):
    """The model does not offer what was asked."""

    def __init__(self, what: str, offered: str, field: str | None = None) -> None:
        super().__init__(offered, what, "GET /v1/models/{name} lists what is on offer.", field)


class ToleranceNotMet(SurrogateError):
    """The tolerance contract ends in refusal; `details` hold the statements reached, the ledger, what would suffice."""

    def __init__(self, expected: str, got: str, remedy: str, details: Mapping[str, Any]) -> None:
        self.details = details
        super().__init__(expected, got, remedy, "tolerance")


class BrokenBundle(SurrogateError):
    """Files that are not what their manifest says."""

    def __init__(self, file: str, expected: str, got: str) -> None:
        super().__init__(f"{file}: {expected}", got, "Restore the bundle from its source; it was not loaded.", file)


class InvalidOutput(SurrogateError):
    """Numbers of a model that cannot be handed out: not finite where nothing says that they may be missing."""

    def __init__(self, field: str, expected: str, got: str) -> None:
        remedy = "The fault is in the model; report the input to whoever runs the service."
        super().__init__(f"{field}: {expected}", got, remedy, field)


class NotEnabled(SurrogateError):
    """Something the operator has not switched on."""

    def __init__(self, what: str, setting: str) -> None:
        super().__init__(f"a service with {setting} set", what, f"Ask the operator; {setting} allows it.")


class Unauthenticated(SurrogateError):
    """Nobody the service knows: without key or token, or with one that does not hold."""

    def __init__(self, got: str) -> None:
        remedy = "Send a key or token: 'Authorization: Bearer …'; the operator gives them out."
        super().__init__("a valid key or token", got, remedy, "Authorization")


class OutOfScope(SurrogateError):
    """A client whose key or token does not allow this."""

    def __init__(self, needed: str, granted: Iterable[str]) -> None:
        self.needed = needed
        remedy = "Ask the operator for a key with this scope."
        super().__init__(f"the scope '{needed}'", ", ".join(granted) or "none", remedy, "Authorization")


class Unavailable(SurrogateError):
    """Not now; `retry_after` seconds from now it is worth trying again."""

    def __init__(self, expected: str, got: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(expected, got, f"Try again in {retry_after:.0f} s.")


class Overloaded(Unavailable):
    """As many requests, or bytes, wait for a model as may wait."""


class QuotaSpent(Unavailable):
    """The client has asked as often as it may; `headers` tell what it may."""

    def __init__(self, expected: str, retry_after: float, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.headers = tuple(headers)
        super().__init__(expected, "one more", retry_after)


class Ended(SurrogateError):
    """Work that nobody waits for any more."""


class DeadlinePassed(Ended):
    """The request's own deadline, or the service's, has passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"an answer within {seconds:g} s", "none", "Allow more time, or ask for less at once.")


class Abandoned(Ended):
    """The client has gone away."""

    def __init__(self) -> None:
        super().__init__("a client that waits for its answer", "a closed connection", "Keep the connection open.")
