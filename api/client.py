"""A client for notebooks: answers as xarray objects with units, coordinates, bands and statements.

    zoo = connect("http://127.0.0.1:8000")
    flood = zoo["flood"]
    answer = flood.predict(flood.example(), quantiles=[0.1, 0.9])
    answer["maximum_depth"], answer["maximum_depth_upper"], statements(answer)

This file stands alone: it needs httpx, numpy and xarray, nothing else of this project, and may be copied. What it knows
of a model it reads from the service's description. It is no part of the service, which never imports it.

Problem                 the service, or this client before anything is sent, refuses; says what to do
├── Busy                503, and the retries or the time are used up
└── NotServed           no such model or version; also a KeyError

Network failures stay httpx's own exceptions.
"""

import base64
import html
import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
import numpy as np
import xarray as xr

LEAD_TIME = "lead_time"
GRACE = 2.0  # seconds after its deadline in which the service can still say that it has passed
FIRST_PAUSE = 0.1  # seconds, doubled with every attempt, where the service does not say when to come back
LONGEST = 1e6  # seconds that a call may be given: sockets take no infinite ones
JITTER = 0.1  # of a pause, on top of it: clients that were refused together do not come back together
NODE_TOLERANCE = 1e-3  # of the distance of two nodes: coordinates in float32 pass, half a cell does not
NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

Band = Literal["simultaneous", "pointwise"]
Method = Literal["gradient", "integrated_gradients", "occlusion", "shapley", "what_if"]
OnMiss = Literal["flag", "correct", "solve", "refuse"]
Inputs = Mapping[Any, Any]


class Problem(Exception):
    """A refusal, from an RFC 9457 document: `code`, `field`, `expected`, `got`, `remedy`, `status` (None: not sent)."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(dict(document))
        self.document = document
        self.code = str(document.get("code", "unknown"))
        self.status: int | None = document.get("status")
        self.field, self.expected = document.get("field"), document.get("expected")
        self.got, self.remedy = document.get("got"), document.get("remedy")

    def __str__(self) -> str:
        place = f" in {self.field}" if self.field else ""
        status = "" if self.status is None else f" ({self.status})"
        return f"{self.code}{place}{status}: {self.document.get('detail', 'no further detail')}"


class Busy(Problem):
    """503: the service has no room now, and the retries or the time are used up."""


class NotServed(Problem, KeyError):
    """No such model, or no such version of it."""


def _refused(code: str, field: str, expected: str, got: str, remedy: str) -> Problem:
    """A problem found before anything is sent."""
    facts = {"field": field, "expected": expected, "got": got, "remedy": remedy}
    return Problem({"code": code, "detail": f"Expected {expected}, got {got}. {remedy}", **facts})


def _problem(document: Mapping[str, Any]) -> Problem:
    if document.get("code") in ("unknown-model", "unknown-version"):
        return NotServed(document)
    return Busy(document) if document.get("status") == httpx.codes.SERVICE_UNAVAILABLE else Problem(document)


def _problem_of(response: httpx.Response) -> Problem:
    """What a response that is no success says, also where a proxy and not the service wrote it."""
    try:
        found = json.loads(response.read())
    except ValueError:
        found = None
    if not isinstance(found, dict) or "code" not in found:
        phrase = response.reason_phrase or "no success"
        found = {"code": phrase.lower().replace(" ", "-"), "detail": response.text[:200] or phrase}
    return _problem(found | {"status": response.status_code})


# --- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Table:
    """Text in columns; a table in a notebook."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join([self.title, *text] if self.title else text)

    def _repr_html_(self) -> str:
        def row(tag: str, cells: Iterable[str]) -> str:
            inside = "".join(f"<{tag} style='text-align:left'>{html.escape(cell)}</{tag}>" for cell in cells)
            return f"<tr>{inside}</tr>"

        caption = f"<p><b>{html.escape(self.title)}</b></p>" if self.title else ""
        body = "".join(row("td", cells) for cells in self.rows)
        return f"{caption}<table><thead>{row('th', self.columns)}</thead><tbody>{body}</tbody></table>"


def statements(answer: xr.Dataset) -> Table:
    """What an answer claims about its own error, as a table; the same as data is `answer.attrs["statements"]`."""
    found = answer.attrs.get("statements", [])
    found = json.loads(found) if isinstance(found, str) else found
    wanted = ("sample", LEAD_TIME, "quantity", "norm", "kind", "value", "level", "truth", "assumptions", "reading")
    columns = [key for key in wanted if any(item.get(key) is not None for item in found)]
    return Table(columns, [[_cell(item, key) for key in columns] for item in found])


def _cell(statement: Mapping[str, Any], key: str) -> str:
    value = statement.get(key)
    if value is None:
        return "–"
    if key == "norm" and statement.get("relative"):
        return f"{value}, relative"
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def storable(answer: xr.Dataset) -> xr.Dataset:
    """The same with attributes that a file can hold: statements and other structures as JSON text."""
    plain = {k: v if isinstance(v, str | int | float) else json.dumps(v) for k, v in answer.attrs.items()}
    return answer.assign_attrs({key: int(v) if isinstance(v, bool) else v for key, v in plain.items()})


# --- fields ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """A uniform axis: `points` nodes from `start` to `stop` inclusive, or as many labels."""

    name: str
    units: str
    points: int
    start: float
    stop: float
    labels: tuple[str, ...] = ()
    standard_name: str = ""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read from a description; what a later service adds is left out."""
        numbers = (document["units"], document["points"], document["start"], document["stop"])
        return cls(document["name"], *numbers, tuple(document.get("labels", ())), document.get("standard_name", ""))

    @property
    def nodes(self) -> np.ndarray:
        """Where the nodes are."""
        return np.linspace(self.start, self.stop, self.points)

    @property
    def coordinate(self) -> xr.Variable:
        """Labels, or nodes with their unit."""
        values = np.array(self.labels) if self.labels else self.nodes
        named = {"units": "" if self.labels else self.units, "standard_name": self.standard_name}
        return xr.Variable((self.name,), values, {key: value for key, value in named.items() if value})

    def __str__(self) -> str:
        span = ", ".join(self.labels) if self.labels else f"{self.start:g} … {self.stop:g} {self.units}"
        return f"{self.name}: {self.points} ({span})"


@dataclass(frozen=True)
class Field:
    """A named quantity on axes, as the service describes it."""

    name: str
    symbol: str
    units: str
    description: str
    axes: tuple[Axis, ...]
    minimum: float | None = None
    maximum: float | None = None
    role: str = "field"
    standard_name: str = ""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read from a description; what a later service adds is left out."""
        axes = tuple(Axis.from_document(axis) for axis in document["axes"])
        names = (document["name"], document["symbol"], document["units"], document["description"])
        limits = (document.get("minimum"), document.get("maximum"))
        return cls(*names, axes, *limits, document.get("role", "field"), document.get("standard_name", ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(axis.points for axis in self.axes)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(axis.name for axis in self.axes)

    @property
    def is_time(self) -> bool:
        """Whether values are dates."""
        return self.role == "reference_time"

    @property
    def attributes(self) -> dict[str, str]:
        """Units and names, as xarray and CF know them."""
        named = {"units": "" if self.is_time else self.units, "long_name": self.description, "symbol": self.symbol}
        return {key: value for key, value in (named | {"standard_name": self.standard_name}).items() if value}

    @property
    def row(self) -> tuple[str, ...]:
        """What a table says of it."""
        low, high = (("−∞" if v is None else f"{v:g}") for v in (self.minimum, self.maximum))
        limits = "any" if self.minimum is self.maximum is None else f"{low} … {'∞' if self.maximum is None else high}"
        axes = "; ".join(map(str, self.axes)) or "scalar"
        return (self.name, self.symbol, self.units, axes, "a date" if self.is_time else limits, self.description)


# --- inputs: from what a notebook has to the wire -------------------------------------------------------------------


def _wire(fields: Mapping[str, Field], given: Inputs) -> dict[str, Any]:
    """Arrays by field name as base64; one sample of a field goes with every sample of a batch of another."""
    found = {name: _values(fields[name], value) for name, value in given.items() if name in fields}
    sizes = [len(values) for name, values in found.items() if values.ndim == len(fields[name].shape) + 1]
    for name, values in found.items():
        if sizes and values.shape == fields[name].shape:
            found[name] = np.broadcast_to(values, (sizes[0], *values.shape))
    unknown = {str(name): None for name in given if name not in fields}  # the service says what it knows instead
    return {name: _encode(values) for name, values in found.items()} | unknown


def _values(item: Field, value: Any) -> np.ndarray:
    """One input as an array with axes in the declared order; dates are RFC 3339 text.

    Raises Problem where dimensions, coordinates or units differ, or for what is no numbers.
    """
    if isinstance(value, xr.DataArray):
        value = _arranged(item, value)
    if isinstance(value, np.ndarray) and (value.dtype.kind == "c" or np.ma.is_masked(value)):
        got = "complex numbers" if value.dtype.kind == "c" else "some that are masked"
        raise _refused("wrong-type", item.name, "real numbers at every node", got, "Take a part, or fill them.")
    if item.is_time:
        return _dates(value)
    try:
        return np.asarray(value, dtype=np.float32 if item.axes else np.float64)
    except (TypeError, ValueError) as error:
        expected = f"numbers of shape {item.shape}, or a batch of them"
        got = "something else, or rows of unequal length"
        raise _refused("wrong-type", item.name, expected, got, "Make it an array of numbers.") from error


def _dates(value: Any) -> np.ndarray:
    """RFC 3339 text from NumPy's times, which are UTC, and from datetimes; anything else is left as it is."""
    times = np.asarray(value)
    if times.dtype.kind == "M":
        return np.char.add(np.datetime_as_string(times, unit="ms"), "Z")
    text = np.vectorize(lambda item: item.isoformat() if isinstance(item, datetime) else item, otypes=[object])
    return np.asarray(text(times.astype(object)))


def _arranged(item: Field, array: xr.DataArray) -> np.ndarray:
    """Values of a DataArray with the field's axes, found by name, behind a batch axis of any name."""
    batch = [name for name in array.dims if name not in item.dims]
    missing = [name for name in item.dims if name not in array.dims]
    if missing or len(batch) > 1:
        expected = f"dimensions ({', '.join(item.dims)}) in any order, and at most one more for a batch"
        got = f"({', '.join(map(str, array.dims))})"
        raise _refused("wrong-dimensions", item.name, expected, got, "Rename them, or pass its values alone.")
    units = str(array.attrs.get("units", item.units)) or "1"
    if not item.is_time and units.split() != item.units.split():
        remedy = f"Convert; where it is the same unit, write it as '{item.units}'."
        raise _refused("wrong-units", item.name, f"'{item.units}'", repr(units), remedy)
    for axis in item.axes:
        if axis.name in array.coords:
            _check_coordinate(item, axis, array.coords[axis.name].values)
    return np.asarray(array.transpose(*batch, *item.dims).values)


def _check_coordinate(item: Field, axis: Axis, found: np.ndarray) -> None:
    """Raises Problem unless the nodes of an array are those of the axis."""
    numeric = found.dtype.kind in "iuf"
    if found.shape == (axis.points,):
        step = (axis.stop - axis.start) / max(axis.points - 1, 1)
        if numeric and np.abs(found - axis.nodes).max() <= NODE_TOLERANCE * (abs(step) or 1.0):
            return
        if axis.labels and [str(label) for label in found] == list(axis.labels):
            return
    ends = f" from {found[0]} to {found[-1]}" if found.size else ""
    got = f"{len(found)}{ends}" + ("" if numeric or axis.labels else f" ({found.dtype})")
    if found.size == axis.points and numeric:
        got += f", up to {np.abs(found - axis.nodes).max():g} {axis.units} away"
    remedy = (
        f"Bring it onto the model's grid (.interp_like(model.example()['{item.name}']), .sel), "
        f"or drop the coordinate (.drop_vars('{axis.name}')) where only its origin differs."
    )
    raise _refused("wrong-coordinates", f"{item.name}.{axis.name}", f"nodes {axis}", got, remedy)


def _encode(values: np.ndarray) -> Any:
    """A little-endian, row-major base64 array; text as it is."""
    if values.dtype.kind not in "iuf":
        return values.tolist()
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).reshape(values.shape)
    buffer = base64.b64encode(little.tobytes()).decode("ascii")
    return {"shape": list(values.shape), "dtype": values.dtype.name, "data": {"buffer": buffer, "encoding": "base64"}}


def _decode(value: Any) -> np.ndarray:
    """An array of our own from base64, nested lists or a number."""
    if not isinstance(value, Mapping):
        return np.asarray(value)
    raw = base64.b64decode(value["data"]["buffer"])
    return np.frombuffer(raw, np.dtype(value["dtype"]).newbyteorder("<")).reshape(value["shape"]).astype(value["dtype"])


def _moments(text: Any) -> np.ndarray:
    """NumPy times, UTC, from RFC 3339 text or nested lists of it."""
    if isinstance(text, list):
        return np.array([_moments(item) for item in text], dtype="datetime64[ns]")
    return np.asarray(np.datetime64(datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None), "ns"))


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays inside options, for JSON."""
    if isinstance(value, np.generic | np.ndarray | xr.DataArray):
        return np.asarray(value).tolist()
    raise TypeError(f"Expected numbers, text, lists and mappings in options, got {type(value).__name__}. Convert it.")


# --- answers: from the wire to xarray -------------------------------------------------------------------------------


def _example(item: Field, value: Any) -> xr.DataArray:
    """One input of an example, in single precision where it has axes, as the model reads it."""
    values = _moments(value) if item.is_time else _decode(value).astype(np.float32 if item.axes else np.float64)
    coordinates = {axis.name: axis.coordinate for axis in item.axes}
    return xr.DataArray(values, coordinates, item.dims, item.name, item.attributes)


def _claimed(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array of `shape` that is claimed in domain only: NaN where the claim is withdrawn."""
    if value is None:
        return np.full(shape, np.nan, dtype=np.float32)
    if isinstance(value, list) and any(item is None or isinstance(item, Mapping) for item in value):
        return np.stack([_claimed(item, shape[1:]) for item in value])
    return _decode(value)


class _Assembly:
    """Variables and coordinates of one Dataset; an axis that differs from a namesake gets its field's name too."""

    def __init__(self, fields: Mapping[str, Field], coordinates: Mapping[str, xr.Variable] | None = None) -> None:
        self._fields, self._axes = fields, dict[str, Axis]()
        self._coordinates = dict(coordinates or {})
        self._variables: dict[str, xr.Variable] = {}

    def dims(self, name: str, dims: Iterable[str]) -> tuple[str, ...]:
        """Dimensions of a field from those of the wire; their coordinates are noted."""
        own = {axis.name: axis for axis in self._fields[name].axes}
        return tuple(self._dim(name, own[dim]) if dim in own else dim for dim in dims)

    def _dim(self, name: str, axis: Axis) -> str:
        if axis.name == LEAD_TIME and LEAD_TIME in self._coordinates:
            return LEAD_TIME
        dim = axis.name if self._axes.setdefault(axis.name, axis) == axis else f"{name}_{axis.name}"
        coordinate = axis.coordinate
        self._coordinates[dim] = xr.Variable((dim,), coordinate.values, coordinate.attrs)
        return dim

    def add(self, name: str, dims: tuple[str, ...], values: np.ndarray, attributes: Mapping[str, Any]) -> None:
        """One variable."""
        self._variables[name] = xr.Variable(dims, values, dict(attributes))

    def add_coordinate(self, dim: str, values: Sequence[float], **attributes: str) -> None:
        """One coordinate of a dimension of its own."""
        self._coordinates[dim] = xr.Variable((dim,), np.asarray(values, dtype=np.float64), attributes)

    def add_parts(self, parts: Mapping[str, Any], suffix: str = "", meaning: str = "") -> None:
        """Fields of the wire: dims and data by name, under name and suffix; `meaning` and no unit where it is another."""
        for name, part in parts.items():
            attributes: dict[str, Any] = self._fields[name].attributes
            if meaning:
                attributes = {"long_name": meaning.format(name)}
            self.add(name + suffix, self.dims(name, part["dims"]), _decode(part["data"]), attributes)

    def add_answer(self, document: Mapping[str, Any]) -> None:
        """Outputs, uncertainty and members."""
        self.add_parts(document["outputs"])
        uncertainty = document.get("uncertainty", {})
        asked = [name for name, part in uncertainty.items() if part.get("exceedance")]
        for name, part in uncertainty.items():
            self._add_uncertainty(name, part, "threshold" if asked == [name] else f"{name}_threshold")
        for name, values in document.get("members", {}).items():
            dims = list(self._variables[name].dims)
            dims.insert(1 if dims[:1] == ["batch"] else 0, "member")
            attributes = self._fields[name].attributes | {"long_name": f"members of {name}"}
            self.add(f"{name}_members", tuple(map(str, dims)), _decode(values), attributes)

    def _add_uncertainty(self, name: str, part: Mapping[str, Any], threshold: str) -> None:
        mean = self._variables[name]
        dims, units = tuple(map(str, mean.dims)), {"units": self._fields[name].units}
        spread = units | {"long_name": f"standard deviation of {name} in the ensemble"}
        self.add(f"{name}_standard_deviation", dims, _claimed(part["standard_deviation"], mean.shape), spread)
        for side in ("lower", "upper"):
            if side in part:
                said = {"long_name": f"{side} end of the {part['level']:g} band of {name}"}
                facts = units | said | {"level": part["level"], "band": part["band"]}
                self.add(f"{name}_{side}", dims, _claimed(part[side], mean.shape), facts)
        if found := part.get("quantiles"):
            self.add_coordinate("quantile", [float(key) for key in found], long_name="probability", units="1")
            values = np.stack([_claimed(value, mean.shape) for value in found.values()])
            said = units | {"long_name": f"quantiles of {name}"}
            self.add(f"{name}_quantiles", ("quantile", *dims), values, said)
        if listed := part.get("exceedance"):
            self.add_coordinate(threshold, [item["threshold"] for item in listed], units=self._fields[name].units)
            values = np.stack([_claimed(item["probability"], mean.shape) for item in listed])
            said = {"units": "1", "long_name": f"probability that {name} exceeds the threshold"}
            self.add(f"{name}_exceedance", (threshold, *dims), values, said)

    def dataset(self, attributes: Mapping[str, Any]) -> xr.Dataset:
        """All of it."""
        return xr.Dataset(self._variables, self._coordinates, attributes)


def _attributes(document: Mapping[str, Any]) -> dict[str, Any]:
    """Where an answer comes from, whether its inputs are in domain (a list for a batch), and its statements."""
    found = {key: document[key] for key in ("model", "version", "id")}
    if "provenance" in document:
        found["bundle"] = document["provenance"]["bundle"]
    if "validity" in document:
        verdicts = document["validity"]
        for key in ("in_domain", "p_value", "reasons"):
            found[key] = [each[key] for each in verdicts] if isinstance(verdicts, list) else verdicts[key]
    for key in ("statements", "contract"):
        if key in document:
            found[key] = document[key]
    return found


def _clocks(document: Mapping[str, Any], frame: int | None = None) -> dict[str, xr.Variable]:
    """Coordinates of lead time, and of valid time where the inputs carry a date; of one frame where it is given."""
    values = np.asarray(document["lead_times"]["data"], dtype=np.float64)
    dim: tuple[str, ...] = (LEAD_TIME,)
    place: Any = slice(None)
    if frame is not None:
        dim, place = (), frame
    named = {"units": document["lead_times"]["units"], "long_name": "time since the start"}
    found = {LEAD_TIME: xr.Variable(dim, values[place], named)}
    if "valid_times" in document:
        valid = _moments(document["valid_times"])
        dims = (*(["batch"] if valid.ndim == 2 else []), *dim)
        found["valid_time"] = xr.Variable(dims, valid[..., place], {"standard_name": "time"})
    return found


class Frames(Iterator[xr.Dataset]):
    """Frames of a forecast, each as soon as it is computed; closing it, or letting it go, ends the computation.

    `lead_times` are known from the start; `summary`, a Dataset of what belongs to the whole forecast (fields without
    lead time, statements of the mathematics), after the last frame.
    """

    def __init__(self, outputs: Mapping[str, Field], response: httpx.Response) -> None:
        self._outputs, self._records = outputs, _records(response)
        self._head = self._take()
        self.lead_times = np.asarray(self._head["lead_times"]["data"], dtype=np.float64)
        self.summary: xr.Dataset | None = None

    def _take(self) -> dict[str, Any]:
        record = next(self._records, None)
        if record is None:
            expected, got = "a summary at the end of the frames", "the end of the connection"
            raise _refused("incomplete-answer", "frames", expected, got, "Ask again.")
        if "problem" in record:
            self.close()
            raise _problem(record["problem"])
        return record

    def __next__(self) -> xr.Dataset:
        if self.summary is not None:
            raise StopIteration
        record = self._take()
        whole = "summary" in record
        assembly = _Assembly(self._outputs, None if whole else _clocks(self._head, record["frame"]))
        assembly.add_answer(record)
        found = assembly.dataset(_attributes(self._head | record))
        if whole:
            self.close()
            self.summary = found
            raise StopIteration
        return found

    def close(self) -> None:
        """End the computation."""
        self._records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _records(response: httpx.Response) -> Generator[dict[str, Any]]:
    """Lines of JSON as they come; the response is closed at the end, or when nobody wants more."""
    with closing(response):
        rest = b""
        for part in response.iter_bytes():
            *lines, rest = (rest + part).split(b"\n")
            yield from (json.loads(line) for line in lines if line)


# --- the service ----------------------------------------------------------------------------------------------------


def connect(url: str, *, timeout: float = 60.0, retries: int = 5, headers: Mapping[str, str] | None = None) -> "Zoo":
    """The models a service at `url` serves.

    `timeout`: seconds for one call, waiting and retries included; the service is told, and gives up in time.
    `retries`: how often a call is repeated when the service is busy (503) or cannot be reached.

    Raises Problem, and what httpx raises.
    """
    if not url.startswith(("http://", "https://")):
        raise _refused(
            "bad-address", "url", "http://… or https://…", repr(url)[:80], "Write the address with its scheme."
        )
    connection = _Connection(url, timeout, retries, headers)
    try:
        return Zoo(connection)
    except BaseException:
        connection.close()
        raise


class _Connection:
    """Requests under /v1: repeated while the service is busy, until the time is used up."""

    def __init__(self, url: str, timeout: float, retries: int, headers: Mapping[str, str] | None) -> None:
        self.url, self._timeout, self._retries = url.rstrip("/"), timeout, retries
        self._client = httpx.Client(base_url=f"{self.url}/v1", headers=headers)

    def get(self, path: str, **parameters: str | int) -> httpx.Response:
        """A whole answer to GET."""
        with closing(self._send("GET", path, None, params=parameters)) as response:
            response.read()
            return response

    def post(self, path: str, document: Mapping[str, Any], timeout: float | None) -> dict[str, Any]:
        """A JSON answer to a JSON document."""
        with closing(self._send("POST", path, timeout, **_body(document))) as response:
            return dict(json.loads(response.read()))

    def stream(self, path: str, document: Mapping[str, Any], timeout: float | None) -> httpx.Response:
        """An answer in lines that has begun; the caller closes it."""
        body = _body(document)
        body["headers"] |= {"Accept": "application/x-ndjson"}
        return self._send("POST", path, timeout, **body)

    def _send(self, method: str, path: str, timeout: float | None, **content: Any) -> httpx.Response:
        """An answer that has begun with success.

        Raises Problem in one of its forms, and what httpx raises.
        """
        seconds = self._timeout if timeout is None else timeout
        if not 0.0 < seconds <= LONGEST:
            expected = f"more than 0 seconds, at most {LONGEST:g}"
            raise _refused("bad-timeout", "timeout", expected, f"{seconds:g}", "Allow it some time.")
        deadline = time.monotonic() + seconds
        attempt = 0
        while True:
            pause = FIRST_PAUSE * 2**attempt
            failure: Exception
            try:
                response = self._attempt(method, path, deadline - time.monotonic(), content)
            except NOTHING_SENT as error:
                error.add_note(f"No connection to {self.url}.")
                failure = error
            else:
                if response.is_success:
                    return response
                with closing(response):
                    failure = _problem_of(response)
                    asked = _retry_after(response)
                    pause = pause if asked is None else asked
            pause *= 1.0 + JITTER * float(np.random.default_rng().random())
            ends = not isinstance(failure, Busy | httpx.TransportError) or attempt >= self._retries
            if ends or time.monotonic() + pause >= deadline:
                raise failure
            time.sleep(pause)
            attempt += 1

    def _attempt(self, method: str, path: str, seconds: float, content: Mapping[str, Any]) -> httpx.Response:
        request = self._client.build_request(method, path, timeout=max(seconds, 0.0) + GRACE, **content)
        request.headers["X-Request-Timeout"] = f"{max(seconds, 0.001):.3f}"
        return self._client.send(request, stream=True)

    def close(self) -> None:
        """Close every connection."""
        self._client.close()


def _body(document: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(document, default=_plain, allow_nan=False)
    return {"content": text.encode(), "headers": {"Content-Type": "application/json"}}


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait: given as such, or as a date, which is compared with the service's own clock."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
        now = parsedate_to_datetime(response.headers["date"]) if "date" in response.headers else datetime.now(UTC)
        return max((then - now).total_seconds(), 0.0)
    except (ValueError, TypeError):  # no date, or one with and one without a zone
        return None


class Zoo(Mapping[str, "Model"]):
    """The models of one service, by name: `zoo["flood"]` is the latest version, `zoo["flood", "1"]` that one."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        try:
            listed = connection.get("models").json()["models"]
        except (ValueError, KeyError, TypeError, Problem) as error:
            if isinstance(error, Problem) and error.status != httpx.codes.NOT_FOUND:
                raise
            remedy = "Give the address under which its page is found, without /v1."
            raise _refused("no-service", "url", f"a service at {connection.url}", "another answer", remedy) from error
        self._entries: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in listed}

    def __getitem__(self, key: str | tuple[str, str | int]) -> "Model":
        name, version = (key, None) if isinstance(key, str) else key
        path = f"models/{quote(name, safe='')}" + (
            "" if version is None else f"/versions/{quote(str(version), safe='')}"
        )
        return Model(self._connection, self._connection.get(path).json())

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def _table(self) -> Table:
        entries = self._entries.values()
        rows = [[e["name"], e["version"], e["title"], ", ".join(e["inputs"]), ", ".join(e["outputs"])] for e in entries]
        return Table(("name", "version", "title", "inputs", "outputs"), rows, f"Models at {self._connection.url}")

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Card(str):
    """Markdown that a notebook renders."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


def _options(
    level: float, band: Band, quantiles: Sequence[float], thresholds: Mapping[str, Sequence[float]] | None,
    members: bool, bounds: bool, tolerance: Mapping[str, Any] | None, on_miss: OnMiss, accept: Sequence[str] | None,
) -> dict[str, Any]:  # fmt: skip
    parts = [
        "outputs",
        "uncertainty",
        "validity",
        *(["statements"] if bounds else []),
        *(["members"] if members else []),
    ]
    asked: dict[str, Any] = {"level": level, "band": band, "quantiles": list(quantiles), "thresholds": thresholds or {}}
    if tolerance is not None:
        asked |= {"tolerance": dict(tolerance), "on_miss": on_miss}
        asked |= {} if accept is None else {"accept": list(accept)}
    return asked | {"include": parts, "encoding": "base64"}


class Model:
    """One version of a model. Inputs are given as a mapping (or a Dataset), as keywords, or both: keywords win.

    A value is a number, a list, a NumPy array, or a DataArray, whose axes are found by name and whose coordinates and
    units are checked; a date is a string with its offset, a datetime or a datetime64 (UTC). One more axis is a batch,
    and an input without it goes with every sample of the batch. Every call raises Problem, in one of its forms.
    """

    def __init__(self, connection: _Connection, description: dict[str, Any]) -> None:
        self._connection, self.description = connection, description
        self.name: str = description["name"]
        self.version: str = description["version"]
        self.title: str = description["title"]
        self.inputs = {item["name"]: Field.from_document(item) for item in description["inputs"]}
        self.outputs = {item["name"]: Field.from_document(item) for item in description["outputs"]}
        self._path = f"models/{quote(self.name, safe='')}/versions/{quote(self.version, safe='')}"

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self._tables()))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self._tables())

    def _tables(self) -> tuple[Table, Table]:
        columns = ("name", "symbol", "units", "axes", "accepted", "description")
        head = f"{self.name}, version {self.version}: {self.title}"
        inputs = Table(columns, [item.row for item in self.inputs.values()], f"{head}\nInputs")
        return inputs, Table(columns, [item.row for item in self.outputs.values()], "Outputs")

    @property
    def card(self) -> Card:
        """The model card."""
        return Card(self._connection.get(f"{self._path}/card").text)

    def example(self, seed: int = 0) -> dict[str, xr.DataArray]:
        """Valid inputs drawn from the training distribution, with coordinates and units."""
        found = self._connection.get(f"{self._path}/example", seed=seed, encoding="base64").json()["inputs"]
        return {name: _example(self.inputs[name], value) for name, value in found.items()}

    def predict(
        self, inputs: Inputs | None = None, /, *, level: float = 0.9, band: Band = "simultaneous",
        quantiles: Sequence[float] = (), thresholds: Mapping[str, Sequence[float]] | None = None,
        members: bool = False, bounds: bool = True, tolerance: Mapping[str, Any] | None = None,
        on_miss: OnMiss = "flag", accept: Sequence[str] | None = None, timeout: float | None = None, **fields: Any,
    ) -> xr.Dataset:  # fmt: skip
        """Outputs f with f_standard_deviation, f_lower and f_upper, NaN where inputs are out of domain.

        `quantiles` adds f_quantiles, `thresholds` (by output field) the probability f_exceedance, `members` f_members.
        `bounds`: also the statements about the error, which may cost more than the prediction. `tolerance`: the largest
        error that will do, {"quantity", "norm", "value", "relative"}; `on_miss` how far to go for it, and `accept` which
        kinds of statement count. What became of it is the attribute `contract`; a refusal raises Problem.
        """
        options = _options(level, band, quantiles, thresholds, members, bounds, tolerance, on_miss, accept)
        document = self._post("predict", self._inputs(inputs, fields) | options, timeout)
        assembly = _Assembly(self.outputs)
        assembly.add_answer(document)
        return assembly.dataset(_attributes(document))

    def forecast(
        self, inputs: Inputs | None = None, /, lead_times: Sequence[float] | None = None, *, steps: int | None = None,
        level: float = 0.9, band: Band = "simultaneous", quantiles: Sequence[float] = (),
        thresholds: Mapping[str, Sequence[float]] | None = None, members: bool = False, bounds: bool = True,
        tolerance: Mapping[str, Any] | None = None, on_miss: OnMiss = "flag", accept: Sequence[str] | None = None,
        timeout: float | None = None, **fields: Any,
    ) -> xr.Dataset:  # fmt: skip
        """As predict, along `lead_time`: at `lead_times`, at `steps` of the usual ones, or at all of these.

        An input that is the lead time itself is not needed. `valid_time` is there where inputs carry a date.
        """
        options = _options(level, band, quantiles, thresholds, members, bounds, tolerance, on_miss, accept)
        document = self._post("forecast", self._course(inputs, fields, lead_times, steps) | options, timeout)
        assembly = _Assembly(self.outputs, _clocks(document))
        assembly.add_answer(document)
        return assembly.dataset(_attributes(document))

    def stream(
        self, inputs: Inputs | None = None, /, lead_times: Sequence[float] | None = None, *, steps: int | None = None,
        level: float = 0.9, band: Band = "simultaneous", quantiles: Sequence[float] = (),
        thresholds: Mapping[str, Sequence[float]] | None = None, members: bool = False, bounds: bool = True,
        tolerance: Mapping[str, Any] | None = None, on_miss: OnMiss = "flag", accept: Sequence[str] | None = None,
        timeout: float | None = None, **fields: Any,
    ) -> Frames:  # fmt: skip
        """The frames of a forecast as they are computed, one Dataset each; what concerns them all in its `summary`."""
        options = _options(level, band, quantiles, thresholds, members, bounds, tolerance, on_miss, accept)
        document = self._course(inputs, fields, lead_times, steps) | options
        return Frames(self.outputs, self._connection.stream(f"{self._path}/forecast", document, timeout))

    def explain(
        self, inputs: Inputs | None = None, /, *, quantity: Mapping[str, Any], method: Method = "integrated_gradients",
        wrt: Sequence[str] | None = None, baseline: Mapping[str, Any] | float | str | None = None, baselines: int = 8,
        regions: int | Sequence[Mapping[str, Any]] | None = None, change: Mapping[str, Any] | float | None = None,
        smoothing: float | None = None, level: float = 0.9, timeout: float | None = None, **fields: Any,
    ) -> xr.Dataset:  # fmt: skip
        """What in the inputs a quantity of interest depends on: its attribution under the name of every input field.

        `quantity`: {"type": "point" (with a coordinate per axis) | "region_mean" | "norm" | "max" | "exceedance" (of a
        threshold) | "linear" (with weights), "field": an output, "lead_time": one, or [first, last]}, over the [low, high]
        per axis, mask or polygon given. `change`, of method what_if, is added to the inputs. Value, interval, region
        table, response and checks are attributes; maps smoothed over the share `smoothing` of every axis end in _smoothed.
        """
        asked: dict[str, Any] = {
            "method": method, "wrt": wrt, "level": level, "encoding": "base64", "baselines": baselines, "smoothing": smoothing,
            "regions": regions, "quantity": self._quantity(quantity),
            "baseline": self._by_field(baseline), "change": self._by_field(change),
        }  # fmt: skip
        document = self._post("explain", self._inputs(inputs, fields) | asked, timeout)
        assembly, meant = _Assembly(self.inputs), document["quantity"]
        meaning = f"attribution of {meant['type']} of {meant['field']} to {{}}"
        found = document["attribution"]
        assembly.add_parts(found, "", meaning)
        for key, text in (("standard_deviation", "standard deviation of the"), ("smoothed", "smoothed")):
            known = {name: part | {"data": part[key]} for name, part in found.items() if part[key] is not None}
            assembly.add_parts(known, f"_{key}", f"{text} {meaning}")
        kept = ("quantity", "method", "baseline", "regions", "completeness", "response", "checks", "warnings")
        said = _attributes(document | {"statements": [meant["statement"]]})
        conventions = {"convention": "; ".join({part["convention"] for part in found.values()})}
        return assembly.dataset(said | {key: document[key] for key in kept} | conventions)

    def jvp(self, inputs: Inputs, tangent: Inputs, *, timeout: float | None = None) -> xr.Dataset:
        """J t: outputs f, and f_derivative along a change `tangent` of some or all inputs, in their units."""
        body = self._inputs(inputs, {}) | {"tangent": _wire(self.inputs, tangent), "encoding": "base64"}
        document = self._post("jvp", body, timeout)
        assembly = _Assembly(self.outputs)
        assembly.add_parts(document["outputs"])
        assembly.add_parts(document["derivative"], "_derivative", "derivative of {} along the tangent")
        return assembly.dataset(_attributes(document))

    def vjp(self, inputs: Inputs, cotangent: Inputs, *, timeout: float | None = None) -> xr.Dataset:
        """Jᵀ w: the derivatives of ⟨w, outputs⟩ in every input under its name; `cotangent` weighs some or all outputs."""
        body = self._inputs(inputs, {}) | {"cotangent": _wire(self.outputs, cotangent), "encoding": "base64"}
        document = self._post("vjp", body, timeout)
        assembly = _Assembly(self.inputs)
        assembly.add_parts(document["gradient"], "", "derivative of the weighted outputs in {}")
        return assembly.dataset(_attributes(document))

    def _post(self, call: str, document: Mapping[str, Any], timeout: float | None) -> dict[str, Any]:
        return self._connection.post(f"{self._path}/{call}", document, timeout)

    def _inputs(self, inputs: Inputs | None, fields: Inputs) -> dict[str, Any]:
        given = {} if inputs is None else inputs
        if isinstance(given, xr.Dataset):  # choosing one of many runs makes its parameters coordinates
            given = {
                name: given[name] for name in given.coords if name in self.inputs and name not in given.dims
            } | dict(given)
        return {"inputs": _wire(self.inputs, {**given, **fields})}

    def _course(
        self, inputs: Inputs | None, fields: Inputs, lead_times: Sequence[float] | None, steps: int | None
    ) -> dict[str, Any]:
        """Inputs without the lead time, and the lead times."""
        body = self._inputs(inputs, fields)
        kept = {k: v for k, v in body["inputs"].items() if k not in self.inputs or self.inputs[k].role != LEAD_TIME}
        times = None if lead_times is None else [float(value) for value in lead_times]
        return {"inputs": kept, "lead_times": times, "steps": steps}

    def _quantity(self, quantity: Mapping[str, Any]) -> dict[str, Any]:
        item = self.outputs.get(quantity.get("field", next(iter(self.outputs))))
        if item is None:
            return dict(quantity)
        return {k: _values(item, v).tolist() if k in ("weights", "mask") else v for k, v in quantity.items()}

    def _by_field(self, given: Mapping[str, Any] | float | str | None) -> Any:
        """Numbers and names as they are, fields in the order of their axes."""
        if not isinstance(given, Mapping):
            return given
        grids = {k: v for k, v in given.items() if k in self.inputs and not isinstance(v, str)}
        return {**given, **{k: _values(self.inputs[k], v).tolist() for k, v in grids.items()}}
