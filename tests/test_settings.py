"""Settings: what may be set, and that a bad one is one clear line without a secret."""

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import ValidationError

from runner.settings import BadSettings, Settings, load_settings

GOOD = {"DATABASE_URL": "postgresql://app:s3cret@db:5432/shop", "STRIPE_API_KEY": "sk_test_51Secret"}
LIVE = {**GOOD, "STRIPE_API_KEY": "rk_live_51Secret"}


def own(**settings: str) -> dict[str, str]:
    """Give settings by their names without the prefix."""
    return {f"SELLER_TRANSFERS_{name}": text for name, text in settings.items()}


def complaints(environ: dict[str, str], *, need_stripe: bool = True, need_webhook: bool = False) -> list[str]:
    """Give the lines about a bad environment; none of them may hold a secret."""
    with pytest.raises(BadSettings) as caught:
        load_settings(environ, need_stripe=need_stripe, need_webhook=need_webhook)
    text = str(caught.value)
    assert "s3cret" not in text
    assert "51Secret" not in text
    assert caught.value.__cause__ is None
    return text.splitlines()


def test_two_variables_are_enough() -> None:
    settings = load_settings(GOOD, need_stripe=True)

    assert settings.database_url.get_secret_value() == "postgresql://app:s3cret@db:5432/shop"
    assert settings.stripe_api_key.get_secret_value() == "sk_test_51Secret"
    assert settings.stripe_api_base is None
    assert (settings.slots, settings.lease_seconds, settings.call_deadline_seconds) == (16, 60, 30)
    assert (settings.poll_seconds, settings.log_level) == (5, "info")
    assert settings.log_format in ("console", "json")


def test_every_setting_can_be_set() -> None:
    settings = load_settings(
        GOOD
        | own(
            STRIPE_API_BASE="http://127.0.0.1:4242",
            SLOTS="200",
            LEASE_SECONDS="2",
            CALL_DEADLINE_SECONDS="0.3",
            POLL_SECONDS="0.5",
            WORKER="blue-7",
            WEBHOOK_HOST="0.0.0.0",
            WEBHOOK_PORT="0",
            WEBHOOK_BODY_LIMIT="2048",
            WEBHOOK_CONNECTIONS="2",
            LOG_LEVEL="DEBUG",
            LOG_FORMAT="json",
        ),
        need_stripe=True,
    )

    assert settings.stripe_api_base == "http://127.0.0.1:4242"
    assert (settings.slots, settings.lease_seconds, settings.call_deadline_seconds) == (200, 2, 0.3)
    assert (settings.poll_seconds, settings.worker) == (0.5, "blue-7")
    assert (settings.webhook_host, settings.webhook_port) == ("0.0.0.0", 0)
    assert (settings.webhook_body_limit, settings.webhook_connections) == (2048, 2)
    assert (settings.log_level, settings.log_format) == ("debug", "json")


def test_the_webhook_needs_its_secret_and_has_a_default_for_the_rest() -> None:
    environ = {"DATABASE_URL": "dbname=shop", "STRIPE_WEBHOOK_SECRET": "whsec_51Secret"}

    settings = load_settings(environ, need_stripe=False, need_webhook=True)

    assert settings.webhook_secrets() == ["whsec_51Secret"]
    assert (settings.webhook_host, settings.webhook_port) == ("127.0.0.1", 8790)
    assert (settings.webhook_body_limit, settings.webhook_connections) == (1_048_576, 8)
    (line,) = complaints({"DATABASE_URL": "dbname=shop"}, need_stripe=False, need_webhook=True)
    assert line.startswith("STRIPE_WEBHOOK_SECRET: it is not set. Set it to the endpoint's signing secret, whsec_…")


def test_while_a_webhook_secret_is_rolled_there_are_several_and_none_is_shown() -> None:
    environ = GOOD | {"STRIPE_WEBHOOK_SECRET": " whsec_51SecretOld , whsec_51SecretNew+/= "}

    settings = load_settings(environ, need_stripe=True, need_webhook=True)

    assert settings.webhook_secrets() == ["whsec_51SecretOld", "whsec_51SecretNew+/="]
    assert settings.secrets() == ["sk_test_51Secret", "s3cret", "whsec_51SecretOld", "whsec_51SecretNew+/="]
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "51Secret" not in shown


@pytest.mark.parametrize(
    ("secrets", "problem"),
    [
        ("51Secret", "does not look like a webhook secret"),
        ("sk_test_51Secret", "does not look like a webhook secret"),
        ("whsec_", "does not look like a webhook secret"),
        ("whsec_51Secret;whsec_51Secret", "does not look like a webhook secret"),
        ("whsec_51Secret whsec_51Secret", "does not look like a webhook secret"),
        ("whsec_51Secret,", "does not look like a webhook secret"),
        (",", "does not look like a webhook secret"),
        (",".join(["whsec_51Secret"] * 6), "has more than 5 secrets in it"),
    ],
)
def test_what_is_no_webhook_secret_is_refused_where_it_is_needed(secrets: str, problem: str) -> None:
    environ = GOOD | {"STRIPE_WEBHOOK_SECRET": secrets}

    (line,) = complaints(environ, need_webhook=True)

    assert line.startswith(f"STRIPE_WEBHOOK_SECRET: it {problem}")
    assert load_settings(environ, need_stripe=True).webhook_secrets() == []


def test_settings_show_no_secret_and_cannot_be_changed() -> None:
    settings = load_settings(GOOD, need_stripe=True)

    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "s3cret" not in shown
        assert "51Secret" not in shown
    with pytest.raises(ValidationError):
        settings.slots = 3


def test_without_need_of_stripe_its_variables_are_not_read() -> None:
    environ = {"DATABASE_URL": "dbname=shop", "STRIPE_API_KEY": "nonsense"} | own(STRIPE_API_BASE="nonsense")

    settings = load_settings(environ, need_stripe=False)

    assert settings.stripe_api_key.get_secret_value() == ""
    assert settings.stripe_api_base is None


def test_all_that_is_missing_is_named_a_line_each() -> None:
    for environ in ({}, {"DATABASE_URL": "  ", "STRIPE_API_KEY": ""}):
        key, url = sorted(complaints(environ), reverse=True)
        assert url.startswith("DATABASE_URL: it is not set. Set it to a URL such as postgresql://")
        assert key.startswith("STRIPE_API_KEY: it is not set. Set it to a secret or restricted key")


def test_several_bad_settings_give_a_line_each() -> None:
    lines = complaints(
        {"DATABASE_URL": "mysql://app:s3cret@db/shop", "STRIPE_API_KEY": "pk_live_51Secret"}
        | own(SLOTS="many", LEASE_SECONDS="20", LOG_LEVEL="loud\x1b[2J\nSLOTS: fine")
    )

    assert sorted(line.split(":")[0] for line in lines) == [
        "DATABASE_URL",
        "SELLER_TRANSFERS_CALL_DEADLINE_SECONDS",
        "SELLER_TRANSFERS_LOG_LEVEL",
        "SELLER_TRANSFERS_SLOTS",
        "STRIPE_API_KEY",
    ]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:s3cret@db/shop",
        "postgres://app@db:5432/shop?sslmode=require",
        "postgresql://a:1,b:2/shop?target_session_attrs=read-write",
        "postgresql:///shop?host=/var/run/postgresql",
        "host=db dbname=shop password='s3 cret'",
    ],
)
def test_a_database_is_a_postgresql_url_or_conninfo(url: str) -> None:
    assert load_settings(GOOD | {"DATABASE_URL": url}, need_stripe=True).database_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "attrs"),
    [
        ("postgresql://app:s3cret@a,b/shop", "read-write"),
        ("postgresql:///shop?host=/run/a,/run/b&port=5432,5433", "read-write"),
        ("hostaddr=192.0.2.1,192.0.2.2 dbname=shop", "read-write"),
        ("postgresql://a,b/shop?target_session_attrs=primary", "primary"),
        ("postgresql://a/shop", None),
    ],
)
def test_of_several_servers_only_the_one_that_writes_will_do(url: str, attrs: str | None) -> None:
    settings = load_settings(GOOD | {"DATABASE_URL": url}, need_stripe=True)
    parts = conninfo_to_dict(settings.database_url.get_secret_value())
    assert parts.pop("target_session_attrs", None) == attrs
    given = conninfo_to_dict(url)
    given.pop("target_session_attrs", None)
    assert parts == given


@pytest.mark.parametrize("attrs", ["read-only", "standby", "prefer-standby"])
def test_a_server_that_is_only_read_will_not_do(attrs: str) -> None:
    (line,) = complaints(GOOD | {"DATABASE_URL": f"postgresql://app:s3cret@a,b/shop?target_session_attrs={attrs}"})
    assert line.startswith("DATABASE_URL: this program writes")
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "url",
    [
        "shop",
        "mysql://app:s3cret@db/shop?a=b",
        "postgresql+psycopg://app:s3cret@db/shop",
        "postgresql://app:s3cret%zz@db/shop",
        "postgresql://app:s3cret@[::1/shop",
        "host=db passwort=s3cret",
        "host=db\udcff",
    ],
)
def test_another_database_url_is_refused_without_repeating_it(url: str) -> None:
    (line,) = complaints(GOOD | {"DATABASE_URL": url})
    assert line.startswith("DATABASE_URL: it cannot be read as a PostgreSQL URL or conninfo")


@pytest.mark.parametrize("key", ["sk_test_51Secret", "sk_live_51Secret", "rk_test_51Secret", " rk_live_51Secret\n"])
def test_secret_and_restricted_keys_are_taken(key: str) -> None:
    settings = load_settings(GOOD | {"STRIPE_API_KEY": key}, need_stripe=True)
    assert settings.stripe_api_key.get_secret_value() == key.strip()


@pytest.mark.parametrize(
    "key",
    [
        "51Secret",
        "sk_51Secret",
        "sk_test_",
        "whsec_51Secret",
        "sk_test_51Secret sk_live_51Secret",
        "sk_test_51Secret\r\nX: y",
    ],
)
def test_what_is_no_key_is_refused(key: str) -> None:
    (line,) = complaints(GOOD | {"STRIPE_API_KEY": key})
    assert line.startswith("STRIPE_API_KEY: it does not look like a Stripe key.")


@pytest.mark.parametrize(
    ("base", "used"),
    [
        ("http://127.0.0.1:4242", "http://127.0.0.1:4242"),
        ("http://127.8.8.8:1/", "http://127.8.8.8:1"),
        ("http://[::1]:4242", "http://[::1]:4242"),
        ("http://LOCALHOST:4242", "http://localhost:4242"),
        ("https://localhost", "https://localhost"),
    ],
)
def test_a_base_on_this_machine_goes_with_any_key(base: str, used: str) -> None:
    for environ in (GOOD, LIVE):
        assert load_settings(environ | own(STRIPE_API_BASE=base), need_stripe=True).stripe_api_base == used


def test_a_base_elsewhere_goes_with_a_test_key_and_https_only() -> None:
    https, plain = own(STRIPE_API_BASE="https://stripe.example:8443"), own(STRIPE_API_BASE="http://stripe.example")

    assert load_settings(GOOD | https, need_stripe=True).stripe_api_base == "https://stripe.example:8443"
    for environ in (LIVE | https, LIVE | plain, GOOD | plain):
        (line,) = complaints(environ)
        assert line.startswith("SELLER_TRANSFERS_STRIPE_API_BASE: ")


@pytest.mark.parametrize(
    "base",
    [
        "127.0.0.1:4242",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "http://127.0.0.1/v1",
        "http://127.0.0.1?x=y",
        "http://127.0.0.1#x",
        "http://127.0.0.1@stripe.example",
        "http://app:s3cret@127.0.0.1",
        "http://127.0.0.1\\@stripe.example",
        "http://127.0.0.1 .stripe.example",
        "http://localhost.stripe.example",
        "http://127.1",
        "http://2130706433",
        "http://0.0.0.0:4242",
    ],
)
def test_no_trick_makes_a_base_pass_for_this_machine(base: str) -> None:
    (line,) = complaints(LIVE | own(STRIPE_API_BASE=base))
    assert line.startswith("SELLER_TRANSFERS_STRIPE_API_BASE: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SLOTS", "0"),
        ("SLOTS", "201"),
        ("SLOTS", "-1"),
        ("SLOTS", "1.5"),
        ("SLOTS", "many"),
        ("LEASE_SECONDS", "0.5"),
        ("LEASE_SECONDS", "3601"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "nan"),
        ("CALL_DEADLINE_SECONDS", "0"),
        ("CALL_DEADLINE_SECONDS", "nan"),
        ("POLL_SECONDS", "0"),
        ("POLL_SECONDS", "301"),
        ("WEBHOOK_HOST", "two words"),
        ("WEBHOOK_HOST", "http://127.0.0.1"),
        ("WEBHOOK_PORT", "-1"),
        ("WEBHOOK_PORT", "65536"),
        ("WEBHOOK_BODY_LIMIT", "1023"),
        ("WEBHOOK_BODY_LIMIT", "1048577"),
        ("WEBHOOK_CONNECTIONS", "0"),
        ("WEBHOOK_CONNECTIONS", "65"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("WORKER", "a\x1b[2Jb"),
        ("WORKER", "a\nb"),
        ("WORKER", "a\x00b"),
        ("WORKER", "a" * 121),
    ],
)
def test_a_setting_out_of_bounds_is_named(name: str, text: str) -> None:
    (line,) = complaints(GOOD | own(**{name: text}))
    assert line.startswith(f"SELLER_TRANSFERS_{name}: ")
    assert " Set it to " in line


def test_a_call_may_take_three_quarters_of_the_lease_and_no_more() -> None:
    just = load_settings(GOOD | own(LEASE_SECONDS="40", CALL_DEADLINE_SECONDS="30"), need_stripe=True)
    assert just.call_deadline_seconds == 30

    (line,) = complaints(GOOD | own(LEASE_SECONDS="40", CALL_DEADLINE_SECONDS="30.1"))
    assert line.startswith("SELLER_TRANSFERS_CALL_DEADLINE_SECONDS: 30.1 s are more than 3/4 of the lease")
    assert "SELLER_TRANSFERS_LEASE_SECONDS, 40 s" in line


def test_a_lease_too_short_for_the_default_deadline_is_refused() -> None:
    (line,) = complaints(GOOD | own(LEASE_SECONDS="39"))
    assert line.startswith("SELLER_TRANSFERS_CALL_DEADLINE_SECONDS: ")


def test_no_two_processes_get_the_same_name_by_default() -> None:
    first, second = (load_settings(GOOD, need_stripe=True).worker for _ in range(2))

    assert first != second
    assert first.isprintable()
    assert len(first.split(":")) == 3


def test_every_setting_says_what_to_set() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_setting_that_does_not_exist_is_refused_instead_of_being_passed_over() -> None:
    (line,) = complaints(GOOD | {"SELLER_TRANSFERS_SLOT": "3"})
    assert line.startswith("SELLER_TRANSFERS_SLOT: there is no such setting")
