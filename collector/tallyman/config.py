"""Every setting of the collector, read once from the environment (`TALLYMAN_…`) and a file.

It does not say what a setting does to the parts: `app.py` hands them on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tallyman.errors import ConfigurationError

# Named here, since the settings know no part.
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

PREFIX = "TALLYMAN_"
CONFIG_VARIABLE = "TALLYMAN_CONFIG"
# A file is copied, kept and shown to others more easily than what can take money should be.
ENVIRONMENT_ALONE = frozenset({"stripe_api_key", "stripe_webhook_secret"})


class Settings(BaseSettings):
    """A wrong or unknown setting stops the start. The environment wins over the file."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address that the API listens on.")
    port: int = Field(8888, ge=0, le=65535, description="Port that the API listens on; 0: any.")
    data_dir: Path = Field(
        Path("tallyman-data"),
        description="Directory of what is embedded: chDB, SQLite, the lock and the local socket.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="Postgres for meters and API keys, `postgresql://user:password@host/name`; "
        "without it SQLite in `data_dir`.",
    )
    clickhouse_url: SecretStr | None = Field(
        None,
        description="ClickHouse for events, `https://user:password@host:8443/database`; "
        "without it chDB in `data_dir`.",
    )
    clickhouse_cluster: str | None = Field(
        None,
        max_length=256,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Cluster of `clickhouse_url` that tables are made on, replicated and sharded; "
        "to be set before the first start. Without it they are one server's.",
    )
    kafka_brokers: str | None = Field(
        None,
        min_length=1,
        description="Kafka for events, `host:port,host:port`: what comes in goes there, and "
        "`tallyman consume` stores it; needs `clickhouse_url`. Without it `serve` stores by itself.",
    )
    kafka_topic: str = Field("llm.usage", min_length=1, description="Topic of the events.")
    kafka_dead_topic: str = Field(
        "llm.usage.dead", min_length=1, description="Topic of messages that are no events."
    )
    kafka_group: str = Field(
        "tallyman", min_length=1, description="Consumer group that `tallyman consume` joins."
    )
    kafka_namespace: str = Field(
        "default",
        min_length=1,
        max_length=256,
        description="Namespace of messages that the plugin produced itself; what came through "
        "`serve` keeps its API key's.",
    )
    kafka_security_protocol: SecurityProtocol = Field(
        "PLAINTEXT", description="How brokers are spoken to."
    )
    kafka_sasl_mechanism: SaslMechanism = Field(
        "PLAIN", description="SASL mechanism, where `kafka_security_protocol` has SASL."
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user.")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ssl_cafile: Path | None = Field(
        None, description="CA certificates that brokers are checked against; else the system's."
    )
    consume_batch_events: int = Field(
        50_000, ge=1, le=200_000, description="Most messages of a batch that `consume` stores."
    )
    consume_batches_at_once: int = Field(
        2,
        ge=1,
        le=4,
        description="How many batches `consume` stores at a time; they are committed in order.",
    )
    consume_wait_ms: int = Field(
        200, ge=1, le=60_000, description="Longest that `consume` waits for a batch to fill."
    )
    consume_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address of the health and metrics page of `consume`; it needs no API key.",
    )
    consume_port: int = Field(
        8889,
        ge=0,
        le=65535,
        description="Port of the health and metrics page of `consume`; 0: any.",
    )
    max_body_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="Largest request body in bytes, unpacked; a larger one is answered 413.",
    )
    max_batch_events: int = Field(
        10_000, ge=1, le=1_000_000, description="Most events of one request; more are answered 413."
    )
    max_new_subjects_per_minute: int = Field(
        10_000,
        ge=0,
        le=100_000_000,
        description="Subjects that an API key may bring for the first time in a minute; with more, "
        "it is answered 429 until the minute is over. 0: as many as it likes.",
    )
    max_query_rows: int = Field(
        100_000, ge=1, description="Most rows of a meter's or cost's query; more are answered 400."
    )
    kong_config: Path | None = Field(
        None,
        description="The gateway's decK file, or the plugin's configuration as YAML or JSON: "
        "what `POST /kong/log` counts by.",
    )
    entitlements_interval_seconds: float = Field(
        1.0, ge=0.1, le=60, description="Pause between two looks for usage that entitlements count."
    )
    entitlements_max_age_seconds: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="Age of the counts beyond which what has a hard limit is not granted.",
    )
    billing_interval_seconds: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="Time between two billing runs of `serve`; 0: it does not bill by itself.",
    )
    billing_settle_seconds: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="How far the watermarks of invoices and of the rollup stay behind the clock of "
        "`clickhouse_url`: the most by which clocks of its servers may differ. chDB has one clock: "
        "there it is the rollup's alone.",
    )
    rollup_interval_seconds: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="Time between two refreshes of the rollup by `serve`, which meters take whole hours "
        "from; 0: it does not refresh, and they read all events that came in since.",
    )
    reconcile_interval_seconds: float = Field(
        3600.0,
        ge=0,
        le=86_400,
        description="Time between two reconciliations of `serve`, the first a minute after the start; "
        "0: it does not reconcile by itself.",
    )
    invoice_link_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="What links to invoices are signed with, 16 characters or more, the same for "
        "every server; another one ends every link. Without it there are no links.",
    )
    stripe_api_key: SecretStr | None = Field(
        None,
        description="Secret key of the Stripe account that invoices go to; from the environment "
        "alone. Without it nothing goes to Stripe.",
    )
    stripe_live: bool = Field(
        False, description="Take a key of live mode, which takes real money; else it is refused."
    )
    stripe_webhook_secret: SecretStr | None = Field(
        None,
        description="Signing secret of the webhook endpoint, `whsec_…`; from the environment alone. "
        "Without it webhooks are refused, and Stripe is asked instead.",
    )
    stripe_namespace: str = Field(
        "default",
        min_length=1,
        max_length=256,
        description="Namespace whose invoices go to Stripe: an account is one supplier's.",
    )
    stripe_api_url: str = Field(
        "https://api.stripe.com",
        pattern=r"^https?://[^\s]+$",
        description="Where Stripe is; another one for stripe-mock.",
    )
    stripe_interval_seconds: float = Field(
        10.0, ge=0.1, le=3600, description="Pause between two looks for what Stripe is to do."
    )
    credit_interval_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Pause between two looks at how much credit is left, and what is topped up; "
        "0: nobody looks.",
    )
    shutdown_seconds: float = Field(
        20.0, ge=0, le=600, description="Longest wait on stopping for requests under way."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No .env file and no secrets directory: one way fewer to be surprised."""
        return init_settings, env_settings


def load(file: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the settings of a file (or of the one that `TALLYMAN_CONFIG` names) and the environment.

    Raises:
        ConfigurationError: a setting is wrong or unknown; says which and why, never its value.
    """
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    _refuse_unknown_variables(environment)
    values = {} if file is None else _read(file)

    class _WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return env_settings, InitSettingsSource(settings_cls, values)

    try:
        return _WithFile()
    except ValidationError as err:
        raise ConfigurationError(_sentences(err, file, environment)) from err


def variable_of(setting: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + setting.upper()


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {variable_of(name) for name in Settings.model_fields} | {CONFIG_VARIABLE}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise ConfigurationError(
            f"{' and '.join(unknown)}: no such setting (docs/configuration.md lists all)"
        )


def _read(file: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(file.read_text())
    except OSError as err:
        raise ConfigurationError(f"cannot read {file}: {err.strerror}") from err
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        # The error's own text quotes the line, which may hold a password.
        mark = getattr(err, "problem_mark", None)
        at = f" at line {mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(f"{file} is not YAML{at}") from err
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigurationError(f"{file} must hold settings as `name: value` lines")
    for name in ENVIRONMENT_ALONE & values.keys():
        raise ConfigurationError(
            f"{name} in {file}: it comes from the environment alone, as {variable_of(name)}"
        )
    return values


def _sentences(err: ValidationError, file: Path | None, environment: Mapping[str, str]) -> str:
    parts = []
    for problem in err.errors(include_input=False, include_url=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        if problem["type"] == "extra_forbidden":
            parts.append(f"{name} in {file}: no such setting (docs/configuration.md lists all)")
            continue
        in_environment = variable_of(name) in environment
        where = variable_of(name) if in_environment or file is None else f"{name} in {file}"
        reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        parts.append(f"{where} is wrong: it {reason[0].lower()}{reason[1:]}")
    return "; ".join(parts)
