"""What the environment says: read once, checked, and never printed with its secrets."""

import ipaddress
import os
import re
import secrets
import socket
import sys
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from runner.clean import safe_text
from runner.servers import only_the_primary

# The part of a lease that one call may take. The rest is for what happens around the call while the lease
# runs: the claim's way back, a free slot, and the report of the outcome, perhaps to a database that is just
# being restarted. A report that comes later is kept, but by then another worker has the row.
CALL_SHARE_OF_LEASE = 0.75
# And never less than this, or no call would ever be begun: it is not, when it could outlive the lease.
SECONDS_AROUND_A_CALL = 0.5

_PREFIX = "SELLER_TRANSFERS_"
_BARE_FIELDS = ("database_url", "stripe_api_key", "stripe_webhook_secret")  # these go by the ecosystem's names
_STRIPE_FIELDS = ("stripe_api_key", "stripe_api_base")
_WEBHOOK_FIELDS = ("stripe_webhook_secret",)
_STRIPE_KEY = re.compile(r"[sr]k_(test|live)_[A-Za-z0-9_]{1,240}")
_LIVE_KEY = re.compile(r"[sr]k_live_")
_WEBHOOK_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=_-]{1,250}")
_WEBHOOK_SECRETS_LIMIT = 5
_WORKER_LIMIT = 120
_FOR_READING = ("read-only", "standby", "prefer-standby")


class BadSettings(Exception):
    """The environment cannot be used; the text has a line per variable: what is wrong and what to set."""


def _variable(field: str) -> str:
    return field.upper() if field in _BARE_FIELDS else _PREFIX + field.upper()


def _default_worker() -> str:
    """Name this process so that a person finds it and no other has its name, also when a pid comes back."""
    host = re.sub(r"[^!-~]", "?", socket.gethostname())[:80]
    return f"{host}:{os.getpid()}:{secrets.token_hex(4)}"


def _default_log_format() -> Literal["console", "json"]:
    return "console" if sys.stderr.isatty() else "json"


class Settings(BaseModel):
    """The settings of one process, made by `load_settings`; a description says what to set."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=_variable, validate_default=True)

    database_url: SecretStr = Field(
        description="a URL such as postgresql://user:password@host:5432/name, or a conninfo (host=… dbname=…);"
        " a primary and its standbys as host1,host2"
    )
    # Empty when the command has nothing to do with Stripe.
    stripe_api_key: SecretStr = Field(
        default=SecretStr(""),
        description="a secret or restricted key: sk_test_…, rk_test_…, sk_live_… or rk_live_…",
    )
    stripe_api_base: str | None = Field(
        default=None,
        description="https://host (with a test key), http://127.0.0.1:port, or leave it out for Stripe",
    )
    stripe_webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description="the endpoint's signing secret, whsec_…; while it is rolled, the old and the new one with a comma",
    )
    webhook_host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")] = Field(
        default="127.0.0.1", description="the name or address to listen on, for example 127.0.0.1 or 0.0.0.0"
    )
    webhook_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8790, description="the port to listen on, 1 to 65535, or 0 for any that is free"
    )
    webhook_body_limit: Annotated[int, Field(ge=1 << 10, le=1 << 20)] = Field(
        default=1 << 20, description="the bytes that a delivery may have, 1024 to 1048576"
    )
    webhook_connections: Annotated[int, Field(ge=1, le=64)] = Field(
        default=8, description="the number of events stored at once, 1 to 64, a database connection each"
    )
    slots: Annotated[int, Field(ge=1, le=200)] = Field(
        default=16, description="the number of calls in flight at once, 1 to 200"
    )
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=60, description="the seconds a worker keeps a row to itself, 1 to 3600"
    )
    call_deadline_seconds: Annotated[float, Field(ge=0.1, le=600)] = Field(
        default=30, description="the seconds one call may take, 0.1 to 600, and at most 3/4 of the lease"
    )
    poll_seconds: Annotated[float, Field(ge=0.1, le=300)] = Field(
        default=5, description="the idle seconds after which to look for work, 0.1 to 300"
    )
    worker: str = Field(
        default_factory=_default_worker,
        description=f"a name no other running worker has, at most {_WORKER_LIMIT} printable characters",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    log_format: Literal["console", "json"] = Field(default_factory=_default_log_format, description="console or json")

    def secrets(self) -> list[str]:
        """What must not be shown: Stripe key, webhook secrets, the database's password, as far as there are any."""
        password = conninfo_to_dict(self.database_url.get_secret_value()).get("password")
        known = (self.stripe_api_key.get_secret_value(), str(password or ""), *self.webhook_secrets())
        return [secret for secret in known if secret]

    def webhook_secrets(self) -> list[str]:
        """The secrets that a delivery may be signed with."""
        parts = self.stripe_webhook_secret.get_secret_value().split(",")
        return [secret for part in parts if (secret := part.strip())]

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr) -> SecretStr:
        try:
            parts = conninfo_to_dict(url.get_secret_value())
        except (psycopg.ProgrammingError, UnicodeError):
            # libpq's own words would repeat the whole of it, password included.
            parts = None
        # A host with an @ in it is the end of a password, and error messages name hosts. (One may begin with an @.)
        if parts is None or any("@" in host[1:] for host in str(parts.get("host", "")).split(",")):
            raise ValueError(
                "it cannot be read as a PostgreSQL URL or conninfo (special characters in a URL's password"
                " must be percent-encoded)"
            )
        ports = str(parts.get("port", "")).split(",")
        if not all(port == "" or (port.isascii() and port.isdigit() and 0 < int(port) < 65536) for port in ports):
            raise ValueError("its port is no number from 1 to 65535")
        if parts.get("target_session_attrs") in _FOR_READING:
            raise ValueError("this program writes: its target_session_attrs must be read-write or primary")
        return SecretStr(only_the_primary(url.get_secret_value()))

    @field_validator("stripe_api_key")
    @classmethod
    def _is_stripe_key(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value()
        if text.startswith("pk_"):
            raise ValueError("it is a publishable key, which cannot move money")
        if text and not _STRIPE_KEY.fullmatch(text):
            raise ValueError("it does not look like a Stripe key")
        return key

    @field_validator("stripe_webhook_secret")
    @classmethod
    def _are_webhook_secrets(cls, secrets: SecretStr) -> SecretStr:
        given = secrets.get_secret_value()
        parts = [part.strip() for part in given.split(",")]
        if given and not all(_WEBHOOK_SECRET.fullmatch(part) for part in parts):
            raise ValueError("it does not look like a webhook secret, or like several with commas between them")
        if len(parts) > _WEBHOOK_SECRETS_LIMIT:
            raise ValueError(f"it has more than {_WEBHOOK_SECRETS_LIMIT} secrets in it")
        return secrets

    @field_validator("stripe_api_base")
    @classmethod
    def _is_safe_base(cls, base: str | None, info: ValidationInfo) -> str | None:
        if base is None:
            return None
        scheme, authority, loopback = _split_base(base)
        key = info.data.get("stripe_api_key")
        if not loopback and key is not None and _LIVE_KEY.match(key.get_secret_value()):
            raise ValueError(f"{authority} is not this machine, and a live key is only for Stripe")
        if not loopback and scheme != "https":
            raise ValueError("without https the key would cross the network in the clear")
        # Put together anew, so that no later reader of the URL can take another part of it for the host.
        return f"{scheme}://{authority}"

    @field_validator("call_deadline_seconds")
    @classmethod
    def _leaves_time_for_the_report(cls, deadline: float, info: ValidationInfo) -> float:
        lease = info.data.get("lease_seconds")
        if lease is not None and deadline > lease * CALL_SHARE_OF_LEASE:
            raise ValueError(
                f"{deadline:g} s are more than 3/4 of the lease ({_variable('lease_seconds')}, {lease:g} s);"
                " the rest is needed to report what came of the call"
            )
        if lease is not None and deadline + SECONDS_AROUND_A_CALL > lease:
            raise ValueError(
                f"{deadline:g} s leave less than {SECONDS_AROUND_A_CALL:g} s of the lease"
                f" ({_variable('lease_seconds')}, {lease:g} s), too little to make a call"
            )
        return deadline

    @field_validator("worker")
    @classmethod
    def _is_a_short_name(cls, worker: str) -> str:
        if not worker.isprintable() or len(worker) > _WORKER_LIMIT:
            raise ValueError("it is too long or holds characters that cannot be shown")
        return worker

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _in_any_case(cls, choice: str) -> str:
        return choice.lower()


def load_settings(environ: Mapping[str, str], *, need_stripe: bool, need_webhook: bool = False) -> Settings:
    """Read and check the settings in `environ`; blank counts as not set.

    Without `need_stripe` the variables for calls to Stripe are not even read, without `need_webhook` the webhook's
    secret is not. Raises BadSettings.
    """
    given = {name: text.strip() for name, text in environ.items() if text.strip()}
    lines = [
        f"{name}: there is no such setting. Look for a slip of the pen."
        for name in given
        if name.startswith(_PREFIX) and name not in {_variable(field) for field in Settings.model_fields}
    ]
    for needed, fields in ((need_stripe, _STRIPE_FIELDS), (need_webhook, _WEBHOOK_FIELDS)):
        if not needed:
            for field in fields:
                given.pop(_variable(field), None)
        elif _variable(fields[0]) not in given:
            lines.append(_line(fields[0], "it is not set"))
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            field = _field(str(problem["loc"][0]))
            lines.append(_line(field, _in_words(problem["type"], problem["msg"], given.get(_variable(field)))))
    if lines:
        raise BadSettings("\n".join(lines))
    return settings


def _line(field: str, problem: str) -> str:
    return f"{_variable(field)}: {problem}. Set it to {Settings.model_fields[field].description}."


def _field(location: str) -> str:
    """Give the field's name for the alias or name by which pydantic reports it."""
    return next(field for field in Settings.model_fields if location in (field, _variable(field)))


def _in_words(kind: str, message: str, value: str | None) -> str:
    if kind == "missing":
        return "it is not set"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    # What is left are the numbers and choices: nothing secret, and the value says most.
    return f"{safe_text(value or '', 60)!r} will not do"


def _split_base(base: str) -> tuple[str, str, bool]:
    """Give scheme, host with port, and whether that is this machine; ValueError if there is more or less."""
    try:
        url = urlsplit(base)
        port = url.port
    except ValueError:
        raise ValueError("it is not a URL") from None
    host = url.hostname or ""
    extras = url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc
    if url.scheme not in ("http", "https") or extras or not re.fullmatch(r"[a-z0-9.:-]+", host):
        raise ValueError("it is not just http(s)://host or http(s)://host:port")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    authority = f"[{host}]" if ":" in host else host
    return url.scheme, authority if port is None else f"{authority}:{port}", loopback
