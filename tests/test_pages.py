"""Pages that users write: one plain line for whatever is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError

from em_inspect.errors import UserError
from em_inspect.pages import (
    checked,
    did_you_mean,
    first_fault,
    parse_arguments,
    parse_yaml,
    read_entries,
)


class Cup(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: float = Field(gt=0)
    colours: tuple[str, ...] = ()


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    cup: Annotated[str, Tag("word")] | Annotated[Cup, Tag("cup")] | None = None
    cups: tuple[Cup, ...] = ()
    notes: dict[str, str] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ({"nmae": "x"}, "unknown field 'nmae' (did you mean 'name'?)"),
        ({}, "field 'name' is missing"),
        ({"name": "x", "cups": [{"size": 1}, {"size": 0}]}, "field 'cups.1.size': input should"),
        (
            {"name": "x", "cups": [{"siez": 1}]},
            "unknown field 'cups.0.siez' (did you mean 'size'?)",
        ),
        (
            {"name": "x", "notes": {"a": 1}},
            "field 'notes.a': input should be a valid string",
        ),
    ],
)
def test_a_fault_names_its_field_and_the_nearest_known_one(page: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Table.model_validate(page)
    assert first_fault(raised.value, Table).startswith(said)


def test_a_member_of_a_union_is_no_word_of_the_page() -> None:
    with pytest.raises(UserError) as raised:
        checked(Table, {"name": "x", "cup": {"size": 1, "colours": 3}}, "page")
    assert str(raised.value).startswith("page: field 'cup")
    assert "word" not in str(raised.value)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(UserError) as raised:
        checked(Table, {"name": ["x" * 1000] * 1000}, "page")
    assert len(str(raised.value)) < 300


def test_names_far_from_all_known_ones_have_no_nearest() -> None:
    assert did_you_mean("zzz", ["cups", "name"]) == ""


def test_a_fault_of_yaml_names_line_and_column() -> None:
    with pytest.raises(UserError, match=r"^page: not valid YAML: .*\(line 2, column"):
        parse_yaml("a: 1\n b: 2\n", "page")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a YAML list of cups (each '- size: …')"),
        ("- x", "cup 1 is not a mapping with 'size'"),
        ("- size: 1\n- size: 1", "the size '1' stands twice; give each cup its own"),
    ],
)
def test_a_list_of_something_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cups.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        read_entries(path, "cup", "size", "bring one")
    assert str(raised.value) == f"{path}: {said}"


def test_entries_are_named_for_their_messages(tmp_path: Path) -> None:
    path = tmp_path / "cups.yaml"
    path.write_text("- size: big\n- colours: []\n")
    assert [where for where, _ in read_entries(path, "cup", "size", "")] == [
        f"{path}: cup 'big'",
        f"{path}: cup 2",
    ]
    with pytest.raises(UserError, match="no such file; bring one"):
        read_entries(tmp_path / "none.yaml", "cup", "size", "bring one")


def test_arguments_are_read_as_inspect_reads_them() -> None:
    read = parse_arguments(["format=all", "orders=4", "dir=a=b", "off=", "ids=[x, y]"], "-T x=1")
    assert read == {"format": "all", "orders": 4, "dir": "a=b", "off": None, "ids": ["x", "y"]}
    with pytest.raises(UserError, match=r"^-T format: give name=value, e\.g\. -T x=1$"):
        parse_arguments(["format"], "-T x=1")
    with pytest.raises(UserError, match=r"^-T ids: not valid YAML: "):
        parse_arguments(["ids=[x"], "-T x=1")


class Kitchen(BaseModel):
    CALLED_ELSEWHERE: ClassVar[Mapping[str, str]] = {"pot": "pan.size"}
    model_config = ConfigDict(extra="forbid")
    method: str = ""


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("pot", "unknown field 'pot' (here: pan.size)"),
        ("metod", "unknown field 'metod' (did you mean 'method'?)"),
        ("model", "unknown field 'model'"),
        ("mesh", "unknown field 'mesh'"),
    ],
)
def test_a_hint_names_what_is_meant_or_nothing(field: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        checked(Kitchen, {field: 1}, "page")
    assert str(caught.value) == f"page: {said}"
