"""Settings: where they come from, which source wins, what is refused, and that no key shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from yeoul.settings import RetentionRule, Settings, Upstream, complaints

KEY = "sk-SECRETSECRET"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with nothing in it, and an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(("YEOUL_", "OPENAI_", "HF_")):
            monkeypatch.delenv(name)
    return tmp_path


def test_without_anything_every_setting_has_a_default() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.broker) == ("127.0.0.1", 8000, None)
    assert settings.heartbeat_s == 15.0
    assert settings.provider is None
    assert settings.openai_api_key is None
    assert settings.upstreams == {}


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_an_argument_wins_over_the_environment_that_over_dotenv_that_over_toml(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "yeoul.toml").write_text("port = 1\nretry_ms = 1\nheartbeat_s = 1\nsend_timeout_s = 1\n")
    (empty_folder / ".env").write_text("YEOUL_PORT=2\nYEOUL_RETRY_MS=2\nYEOUL_HEARTBEAT_S=2\n")
    monkeypatch.setenv("YEOUL_PORT", "3")
    monkeypatch.setenv("YEOUL_RETRY_MS", "3")
    settings = Settings(port=4)
    assert (settings.port, settings.retry_ms, settings.heartbeat_s, settings.send_timeout_s) == (4, 3, 2.0, 1.0)


def test_arguments_of_the_command_line_leave_the_other_sources_in_force(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    monkeypatch.setenv("YEOUL_RETRY_MS", "3")
    settings = Settings.model_validate({"port": 4})
    assert (settings.port, settings.retry_ms) == (4, 3)
    assert settings.openai_api_key is not None


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "YEOUL_OPENAI_API_KEY", "HF_TOKEN", "YEOUL_HF_TOKEN"])
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_key_is_read_under_its_usual_name_and_under_ours(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    if where == ".env":
        (empty_folder / ".env").write_text(f"{name}={KEY}\nSOMETHING_ELSE=1\n")
    else:
        monkeypatch.setenv(name, KEY)
    settings = Settings()
    key = settings.openai_api_key if "OPENAI" in name else settings.hf_token
    assert key is not None
    assert key.get_secret_value() == KEY
    assert "SECRET" not in repr(settings)
    assert "SECRET" not in str(settings.model_dump())


def test_an_empty_key_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert Settings().openai_api_key is None


def test_toml_holds_what_is_a_list_or_a_table(empty_folder: Path) -> None:
    (empty_folder / "yeoul.toml").write_text(
        f"""
        openai_api_key = "{KEY}"
        [[retention]]
        pattern = "chat/*"
        events = 50
        [upstreams.ours]
        url = "http://127.0.0.1:11434/v1"
        model = "m"
        key = "{KEY}"
        """
    )
    settings = Settings()
    assert settings.retention == (RetentionRule(pattern="chat/*", events=50),)
    assert settings.upstreams["ours"].kind == "openai-chat"
    assert settings.upstreams["ours"].model == "m"
    assert settings.openai_api_key is not None
    assert "SECRET" not in repr(settings)


def test_the_environment_holds_them_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YEOUL_UPSTREAMS", '{"ours": {"kind": "openai", "url": "http://x/v1", "model": "m"}}')
    monkeypatch.setenv("YEOUL_RETENTION", '[{"pattern": "a", "seconds": 5}]')
    settings = Settings()
    assert settings.upstreams["ours"] == Upstream(kind="openai", url="http://x/v1", model="m")
    assert settings.retention[0].seconds == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65_536),
        ("workers", 0),
        ("heartbeat_s", 0),
        ("send_timeout_s", float("inf")),
        ("send_timeout_s", float("nan")),
        ("retry_ms", -1),
        ("max_event_bytes", 0),
        ("retention", [{"pattern": ""}]),
        ("retention", [{"pattern": "a", "event": 1}]),
        ("upstreams", {"up": {"url": "ftp://x", "model": "m"}}),
        ("upstreams", {"up": {"url": "http://x"}}),
        ("upstreams", {"up": {"url": "http://x", "model": "m", "kind": "other"}}),
        ("openai_base_url", "api.openai.com"),
        ("demo_pace_s", -1),
        ("lost_reader_s", -1),
        ("cors_origins", ["*"]),
        ("cors_origins", ["https://app.example.com/"]),
        ("allowed_hosts", ["app.example.com:443"]),
        ("trusted_proxies", ["*"]),
        ("subscribe", ["chat/*", ""]),
        ("publish", [""]),
        ("open_topics", [""]),
        ("trusted_proxies", ["10.0.0.1/8"]),
        ("publish_rate", "100"),
        ("connect_rate", "1000001/second"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**{name: value})  # type: ignore[arg-type]
    assert caught.value.errors()[0]["loc"][0] == name


@pytest.mark.parametrize(
    "upstream",
    [
        {"url": "http://x/v1", "key": KEY},
        {"url": "http://x/v1", "model": "m", "api_key": KEY},
        {"url": "http://x/v1", "model": "m", "key": [KEY]},
    ],
)
def test_a_refusal_shows_no_key(upstream: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(upstreams={"up": upstream})
    assert "SECRET" not in str(caught.value)


def test_an_unknown_setting_in_yeoul_toml_is_refused_by_name(empty_folder: Path) -> None:
    (empty_folder / "yeoul.toml").write_text("heartbeat = 5\n")
    with pytest.raises(ValueError, match=r"unknown setting heartbeat in yeoul.toml: did you mean heartbeat_s\?"):
        Settings()


@pytest.mark.parametrize("where", ["yeoul.toml", "environment", ".env"])
def test_unknown_settings_may_be_allowed(empty_folder: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    allowed = "allow_unknown_settings = true\n" if where == "yeoul.toml" else ""
    (empty_folder / "yeoul.toml").write_text(f"{allowed}heartbeat = 5\n")
    if where == "environment":
        monkeypatch.setenv("YEOUL_ALLOW_UNKNOWN_SETTINGS", "true")
    elif where == ".env":
        (empty_folder / ".env").write_text("YEOUL_ALLOW_UNKNOWN_SETTINGS=true\n")
    assert Settings().allow_unknown_settings


def test_an_unknown_variable_of_ours_is_not_an_error(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / ".env").write_text("YEOUL_SOMETHING=1\nPATH_TO=2\n")
    monkeypatch.setenv("YEOUL_OTHER", "1")
    Settings()


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("yeoul.toml", b"heartbeat = [", "yeoul.toml is not TOML: "),
        ("yeoul.toml", b"heartbeet_s = 1", "unknown setting heartbeet_s in yeoul.toml: did you mean heartbeat_s?"),
        (".env", b"YEOUL_RETENTION={bad", "setting retention: not valid JSON: "),
        (".env", b"YEOUL_PORT=many", "setting port: "),
        (".env", b"A=\xff", "a file with settings (.env or yeoul.toml) is not UTF-8: "),
    ],
)
def test_what_is_wrong_is_said_with_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: bytes, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_bytes(text)
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({})  # as the command line does
    assert complaints(caught.value)[0].startswith(told)
