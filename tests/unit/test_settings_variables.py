from __future__ import annotations

from yeoul.settings import empty_keys, misspelled


def test_a_variable_that_is_misspelled_is_told_with_what_was_meant() -> None:
    (said,) = misspelled({"YEOUL_JWT_SECERT": "x", "YEOUL_PORT": "1", "YEOUL_TOKEN": "t", "OPENAI_API_KEY": "k"})
    assert said == "YEOUL_JWT_SECERT is no setting, and has no effect: is it meant to be YEOUL_JWT_SECRET?"
    assert misspelled({"YEOUL_ZZZZZZZZ": ""}) == ["YEOUL_ZZZZZZZZ is no setting, and has no effect"]


def test_settings_under_their_other_names_are_settings() -> None:
    assert misspelled({"YEOUL_OPENAI_API_KEY": "k", "YEOUL_HF_TOKEN": "k", "YEOUL_AI_SERVICE_URL": "u"}) == []


def test_a_key_that_is_there_and_empty_is_told() -> None:
    assert empty_keys({"YEOUL_JWT_SECRET": "", "YEOUL_JWT_JWKS_URL": "https://a", "YEOUL_HOST": ""}) == [
        "YEOUL_JWT_SECRET is set, but empty: give it its value, or take it away"
    ]
