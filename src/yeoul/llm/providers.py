"""The providers by name, and the one that answers where a request names none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import UnknownModel, UnknownProvider
from .provider import Provider

__all__ = ["Providers"]

_WHERE = "(in the environment or in .env)"

# Of the names of models that an error lists.
_MAX_LISTED = 20


class Providers:
    """`default`: the name used where none is chosen; by default the first provider's. `missing`: names of providers
    that could be set up, with the variable to set for each. Raises ValueError for no provider, for two of one name, and
    for a default that is not one of them."""

    def __init__(
        self, providers: Sequence[Provider], default: str | None = None, missing: Mapping[str, str] | None = None
    ) -> None:
        if not providers:
            raise ValueError("at least one provider is needed")
        self._by_name: dict[str, Provider] = {}
        for provider in providers:
            if provider.name in self._by_name:
                raise ValueError(f"two providers are called {provider.name!r}: give one of them another name")
            self._by_name[provider.name] = provider
        self._missing = dict(missing or {})
        self.default = default or providers[0].name
        self.get(self.default)

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def describe(self) -> str:
        """What answers, and how another provider is set up, for the log of the start."""
        chosen = self._by_name[self.default]
        if chosen.name == "demo" and self._missing:
            variables = " or ".join(dict.fromkeys(self._missing.values()))
            return f"the demo provider, which only pretends; for a model set {variables} {_WHERE}"
        return f"{chosen.name} ({chosen.model})"

    def get(self, name: str | None = None) -> Provider:
        """Raises UnknownProvider, which lists those that are set up."""
        name = self.default if name is None else name
        provider = self._by_name.get(name)
        if provider is None:
            hint = f"set {self._missing[name]} {_WHERE}, or " if name in self._missing else ""
            raise UnknownProvider(f"no provider {name!r} is set up here: {hint}use one of {', '.join(self._by_name)}")
        return provider

    def choose(self, name: str | None, model: str | None) -> Provider:
        """The provider for a request that names a provider, a model, both or neither.

        A client chooses only among the models that the provider offers: others may cost more than the operator wants to
        pay. Raises UnknownProvider, UnknownModel.
        """
        provider = self.get(name)
        if model is not None and model not in provider.models and "*" not in provider.models:
            offered = ", ".join(provider.models[:_MAX_LISTED])
            raise UnknownModel(f"{provider.name} does not offer the model {model[:80]!r} here: use one of {offered}")
        return provider

    async def close(self) -> None:
        for provider in self._by_name.values():
            await provider.close()
