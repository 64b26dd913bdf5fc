"""JSON taken out of a model's answer while it streams."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.llm.json_text import JsonText

CASES = {
    '{"a": 1}': '{"a": 1}',
    '```json\n{"a": [1, 2]}\n```': '{"a": [1, 2]}',
    'Sure! Here it is:\n{"a": "b"} Anything else? {"c": 1}': '{"a": "b"}',
    '{"a": [1, 2, ], }': '{"a": [1, 2 ] }',
    '{"a": [1,\n ]}': '{"a": [1\n ]}',
    '{"a": "x, } ] {", "b": ", ]"}': '{"a": "x, } ] {", "b": ", ]"}',
    '{"a": "say \\"hi, }\\" \\\\", }': '{"a": "say \\"hi, }\\" \\\\" }',
    '{"챌린지": "텀블러 🌊",}': '{"챌린지": "텀블러 🌊"}',
    "no object at all": "",
    '{"a": [1': '{"a": [1',
}


@pytest.mark.parametrize(("text", "kept"), CASES.items())
def test_the_object_is_kept_however_it_is_cut(text: str, kept: str) -> None:
    for size in (len(text), 1, 2, 3):
        cleaner = JsonText()
        assert "".join(cleaner.feed(text[at : at + size]) for at in range(0, len(text), size)) == kept


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values, max_size=5), st.lists(st.integers(1, 7), min_size=1, max_size=30))
@settings(derandomize=True, deadline=None)
def test_every_object_arrives_as_it_was(value: dict[str, object], sizes: list[int]) -> None:
    text = "```json\n" + json.dumps(value, ensure_ascii=False, indent=1) + "\n```"
    cleaner, at, kept = JsonText(), 0, ""
    while at < len(text):
        size = sizes[at % len(sizes)]
        kept += cleaner.feed(text[at : at + size])
        at += size
    assert json.loads(kept) == value
    assert cleaner.over
