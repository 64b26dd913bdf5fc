"""The providers by name: the default, and what is said where a name is not set up."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from yeoul.errors import UnknownModel, UnknownProvider
from yeoul.llm.demo import Demo
from yeoul.llm.items import Delta, Finish
from yeoul.llm.provider import Prompt
from yeoul.llm.providers import Providers


class Named:
    """A provider that is only a name."""

    def __init__(self, name: str, *models: str) -> None:
        self.name = name
        self.model = f"{name}-1"
        self.models = (self.model, *models)
        self.closed = False

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Finish, None]:
        yield Finish()

    async def close(self) -> None:
        self.closed = True


def test_the_first_answers_where_none_is_named() -> None:
    a, b = Named("a"), Named("b")
    providers = Providers([a, b])
    assert providers.default == "a"
    assert providers.get() is a
    assert providers.get("b") is b
    assert providers.names == ["a", "b"]


def test_a_default_may_be_chosen() -> None:
    assert Providers([Named("a"), Named("b")], "b").get().name == "b"


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownProvider, match="no provider 'c' is set up here: use one of a, b"):
        Providers([Named("a"), Named("b")]).get("c")


def test_a_name_that_could_be_set_up_is_refused_with_what_to_set() -> None:
    providers = Providers([Named("a")], missing={"openai": "OPENAI_API_KEY"})
    with pytest.raises(UnknownProvider, match=r"set OPENAI_API_KEY \(in the environment or in .env\), or use one of a"):
        providers.get("openai")


def test_an_empty_name_is_not_the_default() -> None:
    with pytest.raises(UnknownProvider, match="no provider ''"):
        Providers([Named("a")]).get("")


def test_a_request_chooses_only_among_the_models_that_are_offered() -> None:
    providers = Providers([Named("a", "a-2"), Named("b", "*")])
    for name, model in (("a", None), ("a", "a-1"), ("a", "a-2"), (None, "a-2"), ("b", "anything")):
        assert providers.choose(name, model).name == (name or "a")
    with pytest.raises(UnknownModel, match="a does not offer the model 'a-3' here: use one of a-1, a-2"):
        providers.choose("a", "a-3")
    with pytest.raises(UnknownModel):
        providers.choose(None, "")
    with pytest.raises(UnknownProvider):
        providers.choose("c", None)


@pytest.mark.parametrize(
    ("names", "default", "why"),
    [([], None, "at least one"), (["a", "a"], None, "two providers are called 'a'"), (["a"], "b", "no provider 'b'")],
)
def test_providers_that_do_not_fit_together_cannot_be_built(names: list[str], default: str | None, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Providers([Named(name) for name in names], default)


def test_the_start_message_names_the_provider() -> None:
    assert Providers([Named("a")]).describe() == "a (a-1)"
    missing = {"openai": "X", "openai-chat": "X", "huggingface": "Y"}
    said = Providers([Demo()], missing=missing).describe()
    assert said == "the demo provider, which only pretends; for a model set X or Y (in the environment or in .env)"
    assert Providers([Demo()]).describe() == "demo (demo-1)"


async def test_closing_closes_them_all() -> None:
    named = [Named("a"), Named("b")]
    await Providers(named).close()
    assert all(provider.closed for provider in named)
