"""What a model takes and gives, as tensors of the Open Inference Protocol v2.

Every tensor has a leading batch axis, written −1. Of an output field f there are the ensemble mean `f`, its
`f_standard_deviation`, and the band `f_lower`, `f_upper` where the field is calibrated; of the whole answer `validity`
(in-domain p-value), `in_domain`, and a guaranteed bound `f_bound_<norm>`, one number or one for each lead time, where a
model without lead times among its inputs has one output field; on request only, `f_members`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.fields import Field
from models.surrogate import Surrogate

NUMBERS: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in (
        ("FP32", "<f4"), ("FP64", "<f8"), ("FP16", "<f2"), ("INT8", "<i1"), ("INT16", "<i2"), ("INT32", "<i4"),
        ("INT64", "<i8"), ("UINT8", "<u1"), ("UINT16", "<u2"), ("UINT32", "<u4"), ("UINT64", "<u8"),
    )
}  # fmt: skip
PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"

Part = Literal["mean", "standard_deviation", "lower", "upper", "validity", "in_domain", "bound", "members"]
KINDS: Mapping[Part, np.dtype[Any]] = {
    part: np.dtype({"in_domain": "?", "bound": "<f8"}.get(part, "<f4"))
    for part in ("mean", "standard_deviation", "lower", "upper", "validity", "in_domain", "bound", "members")
}


@dataclass(frozen=True)
class Tensor:
    """One output: which part of the answer it is, of which field (and in which norm), shape without the batch axis."""

    name: str
    part: Part
    shape: tuple[int, ...] = ()
    field: str = ""
    norm: str = ""

    @property
    def datatype(self) -> str:
        """Its datatype in the protocol's words."""
        return {"in_domain": "BOOL", "bound": "FP64"}.get(self.part, "FP32")

    @property
    def is_masked(self) -> bool:
        """Whether NaN is a legal value, saying that nothing is claimed."""
        return self.part in ("lower", "upper", "bound")


@dataclass(frozen=True)
class Contract:
    """The inputs of a model by name, its outputs in the order of its metadata, and which of them come unasked.

    `task` tells whether the verdict on an input takes the guaranteed bound into account.
    """

    inputs: Mapping[str, Field]
    outputs: Mapping[str, Tensor]
    usual: tuple[Tensor, ...]
    task: bool


def contract_of(surrogate: Surrogate) -> Contract:
    """The tensors of one surrogate; a field's own name goes before a derived tensor of the same name."""
    manifest = surrogate.manifest
    fields = [tensor for item in manifest.outputs for tensor in _of_field(item, item.name in surrogate.calibrations)]
    members = [Tensor(f"{f.name}_members", "members", (manifest.members, *f.shape), f.name) for f in manifest.outputs]
    whole = [Tensor("validity", "validity"), Tensor("in_domain", "in_domain"), *_bounds(surrogate)]
    taken = {item.name for item in manifest.outputs}
    listed = [t for t in (*fields, *whole, *members) if t.part == "mean" or t.name not in taken]
    outputs = {tensor.name: tensor for tensor in listed}
    usual = tuple(tensor for tensor in outputs.values() if tensor.part != "members")
    task = surrogate.domain is not None and surrogate.domain.uses_task
    return Contract({item.name: item for item in manifest.inputs}, outputs, usual, task)


def _of_field(item: Field, calibrated: bool) -> list[Tensor]:
    parts: tuple[Part, ...] = ("standard_deviation", *(("lower", "upper") if calibrated else ()))
    derived = [Tensor(f"{item.name}_{part}", part, item.shape, item.name) for part in parts]
    return [Tensor(item.name, "mean", item.shape, item.name), *derived]


def _bounds(surrogate: Surrogate) -> list[Tensor]:
    """One number per sample and norm, or per lead time too; where they are an input, or fields a choice, /v1 has all."""
    lead, outputs = surrogate.lead_times, surrogate.manifest.outputs
    if surrogate.physics is None or len(outputs) != 1 or (lead is not None and lead.input is not None):
        return []
    name = outputs[0].name
    times = () if lead is None else (lead.frames,)
    stated = [one for one in surrogate.physics.bounds if one.kind == "guaranteed" and not one.relative]
    return [Tensor(f"{name}_bound_{one.norm}", "bound", times if one.timed else (), name, one.norm) for one in stated]


def input_type(item: Field) -> str:
    """Datatype of an input: hours since 1970 need more digits than float32 has."""
    return "FP64" if item.role == "reference_time" else "FP32"


def metadata(surrogate: Surrogate, contract: Contract, versions: list[str]) -> dict[str, Any]:
    """Model metadata; the batch axis is −1."""
    inputs = [
        {"name": f.name, "datatype": input_type(f), "shape": [-1, *f.shape]} for f in contract.inputs.values()
    ]  # fmt: skip
    outputs = [{"name": t.name, "datatype": t.datatype, "shape": [-1, *t.shape]} for t in contract.outputs.values()]
    head = {"name": surrogate.manifest.name, "versions": versions, "platform": PLATFORM}
    return head | {"inputs": inputs, "outputs": outputs}


def configuration(surrogate: Surrogate, contract: Contract, max_batch: int) -> dict[str, Any]:
    """Model configuration; `dims` leave out the batch axis."""
    inputs = [
        {"name": f.name, "data_type": f"TYPE_{input_type(f)}", "dims": list(f.shape)} for f in contract.inputs.values()
    ]  # fmt: skip
    outputs = [
        {"name": t.name, "data_type": f"TYPE_{t.datatype}", "dims": list(t.shape)} for t in contract.outputs.values()
    ]
    batch = surrogate.graphs["model"].batch
    batching = {"preferred_batch_size": [] if batch is None else [batch], "max_queue_delay_microseconds": 0}
    head = {"name": surrogate.manifest.name, "platform": PLATFORM, "backend": BACKEND, "max_batch_size": max_batch}
    policy = {"dynamic_batching": batching, "version_policy": {"all": {}}}
    return head | {"input": inputs, "output": outputs} | policy
