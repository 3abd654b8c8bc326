"""Settings of the service, from environment variables with the prefix SURROGATE_; frozen, unknown keys refused."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.repository import SHIPPED

PREFIX = "SURROGATE_"
# what a refusal of too much names
BODY_SETTING, BATCH_SETTING, VALUES_SETTING = (
    f"{PREFIX}{name}" for name in ("MAX_BODY_BYTES", "MAX_BATCH", "MAX_VALUES")
)
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key only: with a shared secret, whoever can verify can also issue."""


class Settings(BaseSettings):
    """Every setting of the service, with its default and meaning."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port that serves /metrics alone, without keys; 0 means none."
    )
    revision: str = Field(default="unknown", description="Code revision that metrics name.")
    keys: Path | None = Field(default=None, description="File of API keys, a line each from `python -m api keys`.")
    token_keys: str = Field(default="", description="JWKS file or https address to verify tokens (JWT) with.")
    token_issuer: str = Field(default="", description="Issuer that tokens must name.")
    token_audience: str = Field(default="", description="Audience that tokens must name.")
    token_algorithms: str = Field(default="RS256 ES256", description="Signatures that tokens may have.")
    unprotected: bool = Field(
        default=False, description="Serve without keys or tokens on other addresses than loopback."
    )
    origins: str = Field(default="", description="Web origins whose pages may call the service (CORS); empty: none.")
    limits: str = Field(default="", description="Requests a client may send, like `60/second; 100000/day`; empty: any.")
    limit_store: str = Field(
        default="memory://", description="Where requests are counted; `redis://…` counts for all replicas together."
    )
    signers: Path | None = Field(
        default=None, description="PEM file of public keys; only bundles signed by one of them are served."
    )
    zoo: Path = Field(default=SHIPPED, description="Directory of bundles, <name>/<version>/.")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where graphs run.")
    threads: int = Field(
        default=0, ge=0, description="Threads of each run of a graph; 0 shares the cores available among the runs."
    )
    runs: int = Field(default=2, ge=1, le=16, description="Runs of graphs at the same time.")
    workers: int = Field(
        default=0, ge=0, le=64, description="Threads for bounds, bands and pictures; 0 means the cores available."
    )
    callers: int = Field(
        default=8, ge=1, le=64, description="Forecasts, explanations and derivatives in progress at the same time."
    )
    max_waiting: int = Field(default=256, ge=1, description="Most requests at a time per model; more get a 503.")
    max_waiting_bytes: int = Field(
        default=256 * 2**20, ge=2**16, description="Most bytes of request bodies at a time per model; more get a 503."
    )
    request_seconds: float = Field(
        default=60.0, gt=0, description="Longest a request may take; X-Request-Timeout asks for less."
    )
    grace_seconds: int = Field(default=60, ge=1, description="Longest that requests may go on after SIGTERM.")
    reload_seconds: float = Field(
        default=10.0, ge=0, description="How often the directory of bundles is looked at for changes; 0 means never."
    )
    max_model_bytes: int = Field(
        default=4 * 2**30, ge=2**20, description="Most memory that bundles may take together; others are refused."
    )
    umbridge_at_root: bool = Field(
        default=False, description="Answer UM-Bridge at the root too, for clients that take no path (C++, MUQ)."
    )
    model_control: bool = Field(default=False, description="Allow loading and unloading models over the API.")
    allow_cpu: bool = Field(default=False, description="Where no GPU is found though one is asked for, use the CPU.")
    cuda_graphs: bool = Field(default=False, description="On a GPU, record and replay launches for each batch size.")
    body_seconds: float = Field(default=30.0, gt=0, description="Longest a body may take to arrive.")
    max_body_bytes: int = Field(default=32 * 2**20, ge=1024, description="Largest request body.")
    max_batch: int = Field(default=64, ge=1, description="Most samples in one request.")
    max_frames: int = Field(default=1001, ge=1, description="Most lead times in one forecast.")
    max_values: int = Field(
        default=64 * 2**20, ge=2**16, description="Most numbers in one answer (samples × frames × points × members)."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Log lines for people, or for machines.")
    log_requests: bool = Field(default=False, description="A log line for every request.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Log level.")

    @property
    def is_protected(self) -> bool:
        """Whether requests must show who sends them."""
        return self.keys is not None or bool(self.token_keys)

    @model_validator(mode="after")
    def _check_protection(self) -> Self:
        if not (self.is_protected or self.unprotected or _is_loopback(self.host)):
            raise ValueError(
                f"Expected {PREFIX}KEYS or {PREFIX}TOKEN_KEYS for a service on {self.host}, got neither. "
                f"Set one, or {PREFIX}UNPROTECTED=true where something else keeps strangers out."
            )
        if self.token_keys and not (self.token_issuer and self.token_audience):
            raise ValueError(f"Expected {PREFIX}TOKEN_ISSUER and {PREFIX}TOKEN_AUDIENCE beside {PREFIX}TOKEN_KEYS.")
        odd = set(self.token_algorithms.split()) - set(ALGORITHMS)
        if odd or not self.token_algorithms.split():
            raise ValueError(f"Expected {PREFIX}TOKEN_ALGORITHMS among {' '.join(ALGORITHMS)}, got {sorted(odd)}.")
        if self.limits and not self.is_protected:
            raise ValueError(f"Expected {PREFIX}KEYS or {PREFIX}TOKEN_KEYS beside {PREFIX}LIMITS: clients are counted.")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment.

    Raises ValueError when a variable has the prefix but names no setting.
    """
    given = os.environ if environment is None else environment
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    unknown = sorted(key for key in given if key.upper().startswith(PREFIX) and key.upper() not in known)
    if unknown:
        raise ValueError(f"Expected settings among {sorted(known)}, got {unknown}. Remove or rename them.")
    return Settings()


def settings_table() -> str:
    """Every setting with its default and meaning, as Markdown."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "the shipped zoo" if name == "zoo" else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)
