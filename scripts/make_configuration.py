"""Writes docs/configuration.md from the settings, so that the two cannot drift. A test compares them."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from yeoul.settings import RetentionRule, Settings, Upstream

HEAD = """\
# Configuration

<!-- Written by `make docs` from src/yeoul/settings.py. -->

Every setting can be given as an environment variable, in `.env`, or in `yeoul.toml` (there in lower case and without
`YEOUL_`), in this order of precedence; the options of `yeoul serve` come before all of them. A name that ends in `_s`
is in seconds, `_ms` in milliseconds, `_bytes` in bytes.

```toml
# yeoul.toml
heartbeat_s = 10
retention = [{ pattern = "orders/*", events = 200, seconds = 86400 }]

[upstreams.local]
url = "http://127.0.0.1:11434/v1"
model = "llama3.2"
```

In an environment variable, lists and tables are JSON: `YEOUL_UPSTREAMS='{"local": {"url": "…", "model": "…"}}'`.
"""


def variables(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices if str(choice).isupper()]
    return [f"YEOUL_{name.upper()}"]


def default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "(needed)"
    if value is None:
        return "—"
    if isinstance(value, str | Path):
        return f"`{value}`"
    return f"`{json.dumps(value)}`"


def table(fields: dict[str, FieldInfo], heading: str, named: bool) -> str:
    rows = [f"| {heading} | default | what it is, and why |", "| --- | --- | --- |"]
    for name, field in fields.items():
        shown = "<br>".join(f"`{variable}`" for variable in (variables(name, field) if named else [name]))
        rows.append(f"| {shown} | {default(field)} | {field.description or ''} |")
    return "\n".join(rows)


def configuration() -> str:
    return "\n".join(
        [
            HEAD,
            table(dict(Settings.model_fields), "setting", named=True),
            "\n## An entry of `YEOUL_UPSTREAMS`\n",
            table(dict(Upstream.model_fields), "field", named=False),
            "\n## An entry of `YEOUL_RETENTION`\n",
            table(dict(RetentionRule.model_fields), "field", named=False),
            "",
        ]
    )


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "configuration.md").write_text(configuration())
