"""What is applied goes as JSON that is YAML too."""

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.edges.kubernetes import _yaml


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=4))
def test_any_text_means_the_same_in_json_and_in_yaml(document: dict[str, str]) -> None:
    text = _yaml(document).decode("utf-8")
    assert json.loads(text) == document
    assert yaml.safe_load(text) == document


def test_characters_beyond_the_first_plane_are_not_escaped() -> None:
    assert "\N{PARTY POPPER}" in _yaml({"a": "\N{PARTY POPPER}\x7f"}).decode("utf-8")
