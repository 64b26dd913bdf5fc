from __future__ import annotations

from yeoul.settings import empty_keys, unknown_variables


def test_a_variable_that_is_misspelled_is_told_with_what_was_meant() -> None:
    (said,) = unknown_variables({"YEOUL_JWT_SECERT": "x", "YEOUL_PORT": "1", "YEOUL_TOKEN": "t", "OPENAI_API_KEY": "k"})
    assert said == "unknown setting YEOUL_JWT_SECERT in the environment: did you mean YEOUL_JWT_SECRET?"
    assert unknown_variables({"YEOUL_ZZZZZZZZ": ""}) == ["unknown setting YEOUL_ZZZZZZZZ in the environment"]


def test_settings_under_their_other_names_are_settings() -> None:
    assert unknown_variables({"YEOUL_OPENAI_API_KEY": "k", "YEOUL_HF_TOKEN": "k", "YEOUL_AI_SERVICE_URL": "u"}) == []


def test_a_key_that_is_there_and_empty_is_told() -> None:
    assert empty_keys({"YEOUL_JWT_SECRET": "", "YEOUL_JWT_JWKS_URL": "https://a", "YEOUL_HOST": ""}) == [
        "YEOUL_JWT_SECRET is set, but empty: set it to the key, or unset it"
    ]


def test_the_credential_of_a_route_is_not_a_misspelt_setting() -> None:
    routes = [{"path": "/a", "upstream": {"auth": {"variable": "YEOUL_UPSTREAM_KEY"}}}, {"upstream": 1}, {}]
    assert unknown_variables({"YEOUL_UPSTREAM_KEY": "k"}, routes) == []
