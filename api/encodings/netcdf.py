"""NetCDF-4 by the CF conventions 1.8 and ACDD 1.3: every output field with its axes, units and uncertainty.

    X                                          the ensemble mean
    X_standard_deviation                       what the ensemble assigns to its own error
    X_lower, X_upper                           the band
    X_p10, X_p50, …                            quantiles, where asked for
    probability_of_X_above_threshold[_k]       where asked for; the scalar X_threshold[_k] is its coordinate
    X_member                                   one field per member, where asked for

Batches of more than one sample have a dimension `sample`. Lead times are the dimension `time` (valid times, with
`forecast_period`) where the inputs carry a reference time, else the dimension `lead_time`. Bands, quantiles and
probabilities of inputs out of domain are missing values.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import netCDF4
import numpy as np

from api.encodings import json
from api.encodings.trajectory import assemble, axes_of
from models.fields import LEAD_TIME, Axis, Field
from models.forecast import Forecast, Frame, Summary
from models.physical_model import Arrays
from models.surrogate import Answer, Surrogate

MEDIA_TYPE = "application/x-netcdf"
ALSO_ACCEPTED = "application/netcdf"
CONVENTIONS = "CF-1.8, ACDD-1.3"
EPOCH = "hours since 1970-01-01 00:00:00"
HOURS = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "hours": 1.0, "day": 24.0, "d": 24.0}
PLAIN_UNITS = str.maketrans({"°": "deg", "µ": "u", "·": " ", "⁻": "-", "²": "2", "³": "3", "¹": "1"})
DIRECTIONS = {
    "longitude": "X", "projection_x_coordinate": "X", "grid_longitude": "X",
    "latitude": "Y", "projection_y_coordinate": "Y", "grid_latitude": "Y",
}  # fmt: skip
"""By standard name; the x and y of a unit square are no map and may come in any order."""
FILL = np.float32(netCDF4.default_fillvals["f4"])
_one_at_a_time = threading.Lock()  # HDF5 is not thread-safe

Names = tuple[str, ...]


def encode_answer(
    surrogate: Surrogate, inputs: Arrays, answer: Answer, request_id: str, members: bool = False
) -> bytes:
    """A NetCDF file of a prediction."""
    return _encode(surrogate, inputs, answer, None, request_id, members)


def encode_forecast(
    surrogate: Surrogate,
    inputs: Arrays,
    forecast: Forecast,
    frames: Sequence[Frame],
    summary: Summary,
    request_id: str,
    members: bool = False,
) -> bytes:
    """A NetCDF file of a whole forecast."""
    answer = assemble(forecast, frames, summary)
    return _encode(surrogate, inputs, answer, forecast.lead_times, request_id, members)


def _encode(
    surrogate: Surrogate,
    inputs: Arrays,
    answer: Answer,
    lead_times: np.ndarray | None,
    request_id: str,
    members: bool,
) -> bytes:
    with _one_at_a_time:
        file = netCDF4.Dataset("answer.nc", mode="w", format="NETCDF4", memory=1024)
        writer = _Writer(file, surrogate, inputs, answer, lead_times)
        file.setncatts(_provenance(surrogate, answer, request_id))
        writer.write_samples()
        writer.write_times()
        for item in surrogate.manifest.outputs:
            writer.write_field(item, members)
        return bytes(file.close())


def _provenance(surrogate: Surrogate, answer: Answer, request_id: str) -> dict[str, str]:
    """Global attributes: where the file comes from and what is claimed about it."""
    manifest, now = surrogate.manifest, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = manifest.document
    product = f"DL surrogate {manifest.name} v{manifest.version}"
    said = [
        statement.document() | ({"sample": index} if len(answer.statements) > 1 else {})
        for index, statements in enumerate(answer.statements)
        for statement in statements
    ]
    verdicts = [verdict.document() for verdict in answer.validity]
    return {
        "Conventions": CONVENTIONS,
        "title": str(document["title"]),
        "summary": " ".join(str(document.get("description", document["title"])).split()),
        "keywords": f"{document['domain']}, surrogate, {', '.join(item.name for item in manifest.outputs)}",
        "institution": str(document.get("institution", "surrogate service")),
        "source": product,
        "history": f"{now} computed by {product}",
        "references": str(document.get("references", f"/v1/models/{manifest.name}/versions/{manifest.version}/card")),
        "license": str(document.get("licence", "not stated")),
        "date_created": now,
        "id": request_id,
        "request_id": request_id,
        "model_sha256": manifest.digest.removeprefix("sha256:"),
        "surrogate_truth": str(document["truth"]),
        "surrogate_statements": json.dump(said).decode(),
        "surrogate_validity": json.dump(verdicts).decode(),
    }


def udunits(units: str) -> str:
    """Units in the plain characters that UDUNITS reads."""
    return units.translate(PLAIN_UNITS)


def quantile_name(probability: float) -> str:
    """p10 for 0.1, p02_5 for 0.025."""
    whole, _, part = f"{100 * probability:.10g}".partition(".")
    return f"p{whole:0>2}" + (f"_{part}" if part else "")


@dataclass
class _Writer:
    """One file being written; `times` are its coordinates of time that are not dimensions."""

    file: netCDF4.Dataset
    surrogate: Surrogate
    inputs: Arrays
    answer: Answer
    lead_times: np.ndarray | None
    times: Names = ()
    lead: str = LEAD_TIME

    def __post_init__(self) -> None:
        self.count = len(self.answer.validity)
        self.batch: Names = ("sample",) if self.count > 1 else ()
        self.inside = np.array([verdict.in_domain for verdict in self.answer.validity])
        self.axes: dict[str, Axis] = {}
        known = self.surrogate.lead_times
        if self.lead_times is None and known is not None and known.input is None:
            self.lead_times = known.values

    def coordinate(self, name: str, dims: Names, values: np.ndarray, attributes: Mapping[str, Any]) -> None:
        """A coordinate: no fill value, no compression."""
        variable = self.file.createVariable(name, values.dtype, dims)
        variable.setncatts({key: value for key, value in attributes.items() if value != ""})
        variable[...] = values

    def write_samples(self) -> None:
        """The batch, and the verdict on each of its inputs."""
        if self.batch:
            self.file.createDimension("sample", self.count)
            number = np.arange(self.count, dtype=np.int32)
            self.coordinate("sample", self.batch, number, {"long_name": "number in the request", "units": "1"})
        flags = {"flag_values": np.array([0, 1], dtype=np.int8), "flag_meanings": "outside inside"}
        named = {"long_name": "whether the input lies in the domain of the surrogate"}
        self._per_sample("in_domain", self.inside.astype(np.int8), named | flags)
        p_values = np.array([verdict.p_value for verdict in self.answer.validity])
        named = {"long_name": "p-value of the input under the training law", "units": "1"}
        self._per_sample("in_domain_p_value", p_values, named)

    def _per_sample(self, name: str, values: np.ndarray, attributes: Mapping[str, Any]) -> None:
        variable = self.file.createVariable(name, values.dtype, self.batch)
        for key, value in attributes.items():
            variable.setncattr(key, value)
        variable[...] = values if self.batch else values[0]

    def write_times(self) -> None:
        """Lead times, and where the inputs carry a reference time, that and the valid times."""
        known = self.surrogate.lead_times
        if known is None:
            return
        reference = self._reference_times()
        dated = reference is not None and known.units in HOURS
        name = "forecast_period" if dated else LEAD_TIME
        dims, values = self._lead_values(known.input, name, dated)
        period = "forecast_period" if known.units in HOURS else ""
        named = {"standard_name": period, "long_name": "time since the start", "units": udunits(known.units)}
        self.coordinate(name, dims, values, named)
        self.times = () if dims == (name,) else (name,)
        if reference is not None and dated:
            self._write_dates(reference, values * HOURS[known.units], dims)

    def _reference_times(self) -> np.ndarray | None:
        """Hours since 1970 by sample."""
        for item in self.surrogate.manifest.inputs:
            if item.role == "reference_time":
                return np.asarray(self.inputs[item.name], dtype=np.float64)
        return None

    def _lead_values(self, source: str | None, name: str, dated: bool) -> tuple[Names, np.ndarray]:
        """Dimensions and values of the lead times; a prediction has that of its own input."""
        if self.lead_times is None and source is not None:
            own = np.asarray(self.inputs[source], dtype=np.float64)
            return (self.batch, own) if self.batch else ((), own[0])
        values = np.asarray(self.lead_times, dtype=np.float64)
        self.lead = "time" if dated and not self.batch else name
        self.file.createDimension(self.lead, len(values))
        return (self.lead,), values

    def _write_dates(self, reference: np.ndarray, hours: np.ndarray, dims: Names) -> None:
        dated = {"units": EPOCH, "calendar": "standard"}
        named = {"standard_name": "forecast_reference_time", "long_name": "start of the forecast"}
        self.coordinate("forecast_reference_time", self.batch, reference if self.batch else reference[0], named | dated)
        each = self.batch and dims != self.batch
        valid = np.add.outer(reference, hours) if each else (reference if self.batch else reference[0]) + hours
        axis = "T" if dims == ("time",) else ""
        named = {"standard_name": "time", "long_name": "valid time", "axis": axis}
        self.coordinate("time", (*self.batch, *dims) if each else dims, np.asarray(valid), named | dated)
        self.times = (*self.times, "forecast_reference_time", *(() if axis else ("time",)))

    def _dimension(self, item: Field, axis: Axis) -> tuple[str, Names]:
        """(dimension, further coordinates) of an axis; one that differs from a namesake gets the field's name too."""
        if axis.name == LEAD_TIME:
            return self.lead, ()
        name = axis.name if self.axes.get(axis.name, axis) == axis else f"{item.name}_{axis.name}"
        if name not in self.axes:
            self.axes[name] = axis
            self.file.createDimension(name, axis.points)
            self._label(name, axis) if axis.labels else self._position(name, axis)
        return name, (f"{name}_name",) if axis.labels else ()

    def _position(self, name: str, axis: Axis) -> None:
        direction = DIRECTIONS.get(axis.standard_name, "")
        named = {"standard_name": axis.standard_name, "long_name": axis.name, "units": udunits(axis.units)}
        self.coordinate(name, (name,), axis.coordinates, named | {"axis": direction})

    def _label(self, name: str, axis: Axis) -> None:
        """Names as characters, which every reader knows."""
        raw = np.array([label.encode("utf-8") for label in axis.labels])
        length = f"{name}_name_length"
        self.file.createDimension(length, raw.dtype.itemsize)
        variable = self.file.createVariable(f"{name}_name", "S1", (name, length))
        variable.setncatts({"standard_name": axis.standard_name or "platform_name", "long_name": f"name of the {name}"})
        variable[...] = netCDF4.stringtochar(raw)
        variable.setncattr("_Encoding", "utf-8")

    def write_field(self, item: Field, members: bool) -> None:
        """One output field with all that is known about it."""
        prediction = self.answer.predictions[item.name]
        dims, coordinates = self._dimensions(item)
        beside = self._uncertainty(item, dims, coordinates)
        named = {"standard_name": item.standard_name, "long_name": item.description.rstrip(".") or item.name}
        mean = {"cell_methods": "realization: mean", "ancillary_variables": " ".join(beside)}
        attributes = named | {"units": udunits(item.units), "coordinates": " ".join(coordinates)}
        self.data(item.name, dims, prediction.mean, attributes | mean)
        if members:
            self._members(item, dims, attributes)

    def _dimensions(self, item: Field) -> tuple[Names, Names]:
        """Dimensions, and the coordinates that are not dimensions."""
        axes = axes_of(self.surrogate, item, self.lead_times)
        found = [self._dimension(item, axis) for axis in axes]
        timed = self.surrogate.lead_times is not None and (
            self.surrogate.lead_times.input is not None or any(axis.name == LEAD_TIME for axis in axes)
        )
        start = tuple(name for name in self.times if name == "forecast_reference_time")
        named = tuple(name for _, names in found for name in names)
        return (*self.batch, *(name for name, _ in found)), (*(self.times if timed else start), *named)

    def data(
        self, name: str, dims: Names, values: np.ndarray, attributes: Mapping[str, Any], void: bool = False
    ) -> None:
        """Values (batch, …) of one variable; missing where the input is out of domain if that makes them `void`."""
        shown = np.array(values, dtype=np.float32)
        if void:
            shown[~self.inside] = FILL
        self._store(name, dims, shown if self.batch else shown[0], attributes)

    def _store(self, name: str, dims: Names, values: np.ndarray, attributes: Mapping[str, Any]) -> None:
        packed: dict[str, Any] = {"compression": "zlib", "complevel": 1, "shuffle": True} if dims else {}
        variable = self.file.createVariable(name, "f4", dims, fill_value=FILL, **packed)
        variable.setncatts({key: value for key, value in attributes.items() if value != ""})
        variable[...] = values

    def _uncertainty(self, item: Field, dims: Names, coordinates: Names) -> list[str]:
        """Deviation, band, quantiles and probabilities; the names of what was written."""
        named = {
            "standard_name": item.standard_name,
            "units": udunits(item.units),
            "coordinates": " ".join(coordinates),
        }
        deviation = {
            "long_name": f"standard deviation of {item.name}",
            "cell_methods": "realization: standard_deviation",
        }
        if item.units in ("degC", "K"):
            deviation["units_metadata"] = "temperature: difference"
        spread = f"{item.name}_standard_deviation"
        self.data(spread, dims, self.answer.predictions[item.name].deviation, named | deviation)
        return [
            spread,
            *self._band(item, dims, named),
            *self._quantiles(item, dims, named),
            *self._exceedance(item, dims, coordinates),
        ]

    def _band(self, item: Field, dims: Names, named: Mapping[str, Any]) -> list[str]:
        band, question = self.answer.bands[item.name], self.answer.question
        if band is None:
            return []
        claim = {"band": question.band, "level": question.level, "kind": "statistical"}
        for end, values in (("lower", band.lower), ("upper", band.upper)):
            said = f"{end} end of the {question.band} {100 * question.level:g} % band of {item.name}, statistical"
            self.data(f"{item.name}_{end}", dims, values, {**named, "long_name": said, **claim}, void=True)
        return [f"{item.name}_lower", f"{item.name}_upper"]

    def _quantiles(self, item: Field, dims: Names, named: Mapping[str, Any]) -> list[str]:
        names = []
        for probability, values in sorted(self.answer.distributions[item.name].quantiles.items()):
            names.append(f"{item.name}_{quantile_name(probability)}")
            said = f"{100 * probability:g} % quantile of {item.name}, statistical"
            facts = {"long_name": said, "quantile": probability, "kind": "statistical"}
            self.data(names[-1], dims, values, {**named, **facts}, void=True)
        return names

    def _exceedance(self, item: Field, dims: Names, coordinates: Names) -> list[str]:
        found, names = sorted(self.answer.distributions[item.name].exceedance.items()), []
        for number, (threshold, values) in enumerate(found, start=1):
            suffix = "" if len(found) == 1 else f"_{number}"
            limit = f"{item.name}_threshold{suffix}"
            described = {"standard_name": item.standard_name, "long_name": f"threshold of {item.name}"}
            self.coordinate(limit, (), np.asarray(threshold), described | {"units": udunits(item.units)})
            names.append(f"probability_of_{item.name}_above_threshold{suffix}")
            said = f"probability of {item.name} above {threshold:g} {udunits(item.units)}, statistical"
            facts = {"long_name": said, "units": "1", "coordinates": " ".join((*coordinates, limit))}
            self.data(names[-1], dims, values, facts | {"kind": "statistical"}, void=True)
        return names

    def _members(self, item: Field, dims: Names, attributes: Mapping[str, Any]) -> None:
        members = self.answer.predictions[item.name].members
        if "realization" not in self.file.dimensions:
            self.file.createDimension("realization", members.shape[1])
            named = {"standard_name": "realization", "long_name": "member of the ensemble", "units": "1"}
            self.coordinate("realization", ("realization",), np.arange(members.shape[1], dtype=np.int32), named)
        values = np.moveaxis(members, 1, 0)
        dims, own = ("realization", *dims), {"long_name": f"members of {item.name}"}
        self._store(f"{item.name}_member", dims, values if self.batch else values[:, 0], {**attributes, **own})
