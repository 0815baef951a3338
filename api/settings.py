"""Every setting of the service: environment variables that begin with NAS_, or keyword arguments."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from searchspaces import ConfigError, Violation, nearest, violations, whole_path

Scope = Literal["read", "submit", "worker", "admin"]

_OTHERS = frozenset({"NAS_URL", "NAS_TOKEN", "NAS_KERNELS", "NAS_DATA"})  # read where they are used
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")  # RFC 6750, and what a cookie holds


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseSettings):
    """How one server runs. Frozen; unknown keys are refused.

    >>> Settings(port=9000).address
    'http://127.0.0.1:9000'
    """

    model_config = SettingsConfigDict(
        env_prefix="NAS_", frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True
    )

    folder: Path = Field(
        Path("nas-data"),
        validate_default=True,
        description="Where the embedded store, artifacts, checkpoints and logs lie.",
    )
    store: str | None = Field(
        None, description="SQLAlchemy URL of the store; without one, SQLite in the folder.", repr=False
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to bind. Other than loopback needs tokens.")
    port: int = Field(8421, ge=0, le=65_535, description="Port to bind; 0 takes a free one.")
    workers: int = Field(1, ge=0, le=256, description="Worker processes that the embedded service starts.")
    lease_seconds: float = Field(30.0, ge=0.5, le=3600, description="How long a unit of work is a silent worker's.")
    preflight_seconds: float = Field(600.0, ge=1, le=86_400, description="How long preflight may measure a job.")
    preflight_memory: int | None = Field(
        None, ge=2**28, description="Bytes that preflight may use; without a number, four fifths of what is free."
    )
    tokens: dict[str, frozenset[Scope]] = Field(
        default_factory=dict,
        description='Bearer tokens with their scopes, as JSON: {"TOKEN": ["read", "submit", "worker", "admin"]}. '
        "None means open mode, which is for loopback only.",
        repr=False,
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (),
        description="Host names, comma separated, that requests may address beside loopback and the bound one; "
        "* allows all, with tokens only.",
    )
    public_url: str | None = Field(
        None,
        max_length=2000,
        examples=["https://nas.example.com"],
        description="Where people open the page when a reverse proxy stands before the service: its host is allowed, "
        "and its page may change things.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (),
        description="Addresses or networks, comma separated, of the reverse proxies whose X-Forwarded-Host, "
        "X-Forwarded-Proto and X-Forwarded-For are believed.",
    )
    embedded: bool = Field(True, description="One user's own machine: data sets may be added, and named by raw paths.")
    data: Path | None = Field(
        None,
        validation_alias=AliasChoices("NAS_DATA", "data"),
        description="Folder in which data sets look for their files.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What the server logs.")
    page_size: int = Field(100, ge=1, le=10_000, description="Items on a page when a request names no number.")
    page_size_max: int = Field(1000, ge=1, le=10_000, description="Most items that a request may ask for.")
    body_bytes_max: int = Field(1_048_576, ge=1024, le=2**30, description="Largest request body, in bytes.")
    poll_seconds: float = Field(0.4, ge=0.05, le=60, description="How often a watched job is looked at in the store.")
    ping_seconds: float = Field(15.0, ge=1, le=600, description="Silence after which an event stream sends a ping.")

    @field_validator("tokens")
    @classmethod
    def _tokens_hard_to_guess(cls, tokens: dict[str, frozenset[Scope]]) -> dict[str, frozenset[Scope]]:
        for token, scopes in tokens.items():
            if not _TOKEN.fullmatch(token):
                raise ValueError("tokens of 16 to 512 letters, digits and - . _ ~ + / = only")
            if not scopes:
                raise ValueError("at least one scope for every token: read, submit, worker or admin")
        return tokens

    @field_validator("host")
    @classmethod
    def _host_bare(cls, host: str) -> str:
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @field_validator("public_url")
    @classmethod
    def _public_url_is_an_origin(cls, url: str | None) -> str | None:
        if url is None or not url.strip():
            return None
        parts = urlsplit(url.strip().rstrip("/"))
        try:
            is_origin = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        except ValueError:  # a port that is none
            is_origin = False
        if not is_origin or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("scheme, host and port alone, such as https://nas.example.com:8443")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError as error:
                raise ValueError(f"addresses or networks such as 127.0.0.1, 10.0.0.0/8; {proxy!r} is none") from error
        return proxies

    @field_validator("folder", "data")
    @classmethod
    def _paths_whole(cls, path: Path | None) -> Path | None:
        return whole_path(path) if path else None

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_lower_case(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.lower() for host in hosts)

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Settings:
        if not self.tokens and not self.on_loopback:
            raise ValueError(
                f"host={self.host!r} is not loopback and there are no tokens; bind 127.0.0.1, or set "
                'NAS_TOKENS=\'{"TOKEN": ["read", "submit", "admin"]}\''
            )
        if not self.tokens and "*" in self.allowed_hosts:
            raise ValueError("allowed_hosts='*' needs tokens; name the hosts, or set NAS_TOKENS")
        if self.page_size > self.page_size_max:
            raise ValueError(f"page_size={self.page_size} is above page_size_max={self.page_size_max}; lower it")
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the bound address."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_open(self) -> bool:
        """Whether requests need no token."""
        return not self.tokens

    @property
    def page_url(self) -> str:
        """Where people find the page."""
        return self.public_url or self.address

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the page."""
        wildcard = self.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        host = "127.0.0.1" if wildcard else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @classmethod
    def load(cls, **given: object) -> Settings:
        """Settings from the environment and from what is given, which wins.

        Raises:
            ConfigError: with one violation for every setting that is wrong; never shows a token.
        """
        try:
            return cls(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            raise ConfigError([_without_secrets(violation) for violation in violations(error, model=cls)]) from error
        except SettingsError as error:  # an environment variable that has to be JSON, and is none
            value = "(hidden)" if "tokens" in str(error) else "no JSON"
            allowed = 'JSON in the variable, such as NAS_TOKENS=\'{"TOKEN": ["read", "submit"]}\''
            raise ConfigError([Violation(_named_in(error), value, allowed)]) from error


def misspelt(variables: Iterable[str]) -> list[str]:
    """What to tell of environment variables that are nearly those of a setting: nothing reads them."""
    known = {f"NAS_{name.upper()}" for name in Settings.model_fields} | _OTHERS
    near = {name: nearest(name, known) for name in variables if name.startswith("NAS_") and name not in known}
    told = {
        name: f"nothing reads the environment variable {name}; did you mean {meant}?" for name, meant in near.items()
    }
    return [words for name, words in told.items() if near[name]]


def _named_in(error: SettingsError) -> str:
    return next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "settings")


def _without_secrets(violation: Violation) -> Violation:
    name = violation.field.partition(".")[0]
    if name in ("tokens", "store"):
        return Violation(name, "(hidden)", violation.allowed)
    if violation.field == "(whole)":  # the message names field and value; the input would be all settings
        return Violation("settings", "(as the message says)", violation.allowed)
    return violation
