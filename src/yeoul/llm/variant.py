"""The form of a request that an upstream takes. Pure.

Servers that imitate OpenAI's API, and OpenAI's own models, differ in the optional fields that they take. They say so
with a status: then the request is made in another form, and the form that was taken is kept for the next one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from ..errors import UpstreamRefused

__all__ = ["MAX_TOKENS_FIELDS", "JsonMode", "Variant"]

# What the bound on an answer's tokens is called: by nearly every server, and by OpenAI's newer models.
MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")

# Statuses of a server that does not take a request as it is.
_REFUSED = (400, 422)
# Some servers fail where they do not know a response format.
_REFUSED_FORMAT = (400, 422, 500, 501)

# How servers say that they do not know a field, or not with this model. Not: that its value is wrong.
_NOT_SUPPORTED = re.compile(
    r"unsupported|not supported|does not support|unknown|unrecogni[sz]ed|unexpected|extra|not permitted|not allowed"
    r"|use ['\"`]?max_"
)


class JsonMode(StrEnum):
    """How an upstream is asked for JSON: by a schema, in general, or only by the prompt's words."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    NONE = "none"

    @property
    def weaker(self) -> JsonMode | None:
        return {JsonMode.SCHEMA: JsonMode.OBJECT, JsonMode.OBJECT: JsonMode.NONE}.get(self)


@dataclass(frozen=True, slots=True)
class Variant:
    """`max_tokens_field`: what the bound on tokens is called. `without`: optional fields that are left out. `json`: how
    JSON is asked for, where the prompt has a schema."""

    max_tokens_field: str = MAX_TOKENS_FIELDS[0]
    renamed: bool = False
    without: frozenset[str] = frozenset()
    json: JsonMode = JsonMode.SCHEMA

    def after(self, refusal: UpstreamRefused, sent: Collection[str], *, schema: bool) -> Variant | None:
        """The form to try next, None where none would help.

        `sent`: the optional fields in the refused request; `schema`: whether its prompt had one.
        """
        said = refusal.body.decode(errors="replace").lower()
        if refusal.status in _REFUSED:
            for field in sent:
                if re.search(rf"\b{re.escape(field)}\b", said) and (changed := self._changed(field, said)) is not None:
                    return changed
        if schema and refusal.status in _REFUSED_FORMAT and self.json.weaker is not None:
            return replace(self, json=self.json.weaker)
        return None

    def _changed(self, field: str, said: str) -> Variant | None:
        if field == self.max_tokens_field:
            # It is never left out: without it an answer has no bound.
            if self.renamed or field not in MAX_TOKENS_FIELDS or not _NOT_SUPPORTED.search(said):
                return None
            other = MAX_TOKENS_FIELDS[1 - MAX_TOKENS_FIELDS.index(field)]
            return replace(self, max_tokens_field=other, renamed=True)
        if field == "temperature" and not _NOT_SUPPORTED.search(said):
            return None
        return replace(self, without=self.without | {field})
