"""The body of a call: admission, keys, arrays by field name, lists of names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.encodings import json
from api.protocols.tesseract import arrays
from api.protocols.tesseract.arrays import Format
from api.protocols.tesseract.negotiation import negotiate
from api.routes import requests
from api.service import service_of
from models.errors import MissingField, UnknownField, UnknownOption, WrongType
from models.fields import Field
from models.physical_model import Arrays
from models.surrogate import Surrogate


@dataclass(frozen=True)
class Call:
    """A body whose keys are right, for one model."""

    surrogate: Surrogate
    form: Format
    body: dict[str, Any]

    @property
    def inputs(self) -> Arrays:
        """Every input, (1, *shape).

        Raises InvalidInput in one of its forms.
        """
        return self.arrays("inputs", self.surrogate.manifest.inputs)

    def arrays(self, key: str, fields: Iterable[Field]) -> Arrays:
        """One array for each of the fields and no others.

        Raises InvalidInput in one of its forms.
        """
        return {item.name: arrays.decode(item, f"{key}.{item.name}", value) for item, value in self.take(key, fields)}

    def take(self, key: str, fields: Iterable[Field]) -> list[tuple[Field, Any]]:
        """What the body has for each of the fields.

        Raises WrongType, UnknownField, MissingField.
        """
        given, known = self.body[key], {item.name: item for item in fields}
        if not isinstance(given, Mapping):
            raise WrongType(key, "an object of arrays by field name", type(given).__name__)
        for name in given:
            if name not in known:
                raise UnknownField(f"{key}.{name}", known)
        for name in known:
            if name not in given:
                raise MissingField(f"{key}.{name}")
        return [(item, given[name]) for name, item in known.items()]

    def fields(self, key: str, known: tuple[Field, ...]) -> tuple[Field, ...]:
        """The fields that a list of names asks for.

        Raises WrongType, UnknownOption, UnknownField.
        """
        asked, by_name = self.body[key], {item.name: item for item in known}
        if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
            raise WrongType(key, "a list of names", type(asked).__name__)
        if not asked or len(set(asked)) != len(asked):
            raise UnknownOption(key, f"names among {', '.join(by_name)}, each once", f"{asked}"[:60])
        for name in asked:
            if name not in by_name:
                raise UnknownField(f"{key}.{name}", by_name)
        return tuple(by_name[name] for name in asked)

    def reply(self, content: Any) -> Response:
        """The answer in the format that was negotiated."""
        return Response(json.dump(content), media_type=f"application/{self.form}")


def surrogate_of(request: Request) -> Surrogate:
    """The model that the path names.

    Raises UnknownModel.
    """
    return service_of(request).repository.get(request.path_params["name"])


async def read(request: Request, surrogate: Surrogate, keys: tuple[str, ...]) -> Call:
    """Admission, format, and a body with these keys.

    Raises NotAcceptable, MalformedBody, UnknownField, MissingField, and what the admission of bodies raises.
    """
    form = negotiate(", ".join(request.headers.getlist("accept")))
    requests.admit(request, surrogate)
    body = requests.parse_document(await requests.read_body(request))
    for key in body:
        if key not in keys:
            raise UnknownField(f"body.{key}", keys)
    for key in keys:
        if key not in body:
            raise MissingField(key)
    return Call(surrogate, form, body)
