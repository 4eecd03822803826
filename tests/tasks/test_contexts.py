"""Contexts: what they do to a chat, how they lie around one another, and where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser

from em_inspect.contexts import (
    Context,
    Example,
    compose,
    load_contexts,
    number_context,
    pick_examples,
    read_contexts,
    read_examples,
)
from em_inspect.contexts.system_role import folded
from em_inspect.errors import UserError

ASKED: list[ChatMessage] = [ChatMessageUser(content="What {is} it?")]
EXAMPLES = (Example(user="a", assistant="A"), Example(user="b", assistant="B"))


def texts(chat: list[ChatMessage]) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in chat]


def test_a_context_without_parts_leaves_the_chat_as_it_is() -> None:
    assert texts(Context(name="none").apply(ASKED)) == texts(ASKED)


def test_prefix_template_and_suffix_surround_the_question_whose_braces_stay() -> None:
    context = Context(name="c", prefix="<", user="Q {x}: {question}!", suffix=">")
    assert texts(context.apply(ASKED)) == [("user", "<Q {x}: What {is} it?!>")]


def test_a_system_prompt_stands_before_the_question_s_own() -> None:
    chat: list[ChatMessage] = [ChatMessageSystem(content="own"), *ASKED]
    assert texts(Context(name="c", system="new").apply(chat))[0] == ("system", "new\n\nown")


def test_examples_are_turns_after_the_system_prompt() -> None:
    context = Context(name="c", system="s", examples=EXAMPLES)
    roles = [message.role for message in context.apply(ASKED)]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]


def test_examples_can_all_stand_inside_the_first_user_message() -> None:
    (message,) = Context(name="c", examples=EXAMPLES, placement="first_message").apply(ASKED)
    places = [message.text.index(text) for text in ("a", "A", "b", "B", "What {is} it?")]
    assert message.role == "user"
    assert message.text.endswith("What {is} it?")
    assert places[-1] == max(places)


def test_composed_contexts_lie_around_one_another_from_the_question_outwards() -> None:
    a, b = Context(name="a", prefix="a", format="json"), Context(name="b", prefix="b", suffix="b")
    both = compose(a, b, Context(name="c", prefix="c"))
    assert both.name == "a+b+c"
    assert both.answer_format == "json"
    assert texts(both.apply(ASKED)) == [("user", "cbaWhat {is} it?b")]
    assert texts(compose(a, compose(b, a)).apply(ASKED)) == [("user", "abaWhat {is} it?b")]


def test_a_folded_system_prompt_stands_in_the_first_user_message() -> None:
    chat = Context(name="c", system="s", examples=EXAMPLES).apply(ASKED)
    assert texts(folded(chat))[0] == ("user", "s\n\na")
    assert len(folded(chat)) == len(chat) - 1


def test_contexts_are_named_compared_and_joined_on_the_command_line(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("- name: x\n  prefix: 'X '\n- name: y\n  suffix: ' Y'\n")
    named = ["plain", "deployment_tag", f"{own}:x", f"code_template+{own}:y"]
    assert [c and c.name for c in load_contexts(named)] == [
        None,
        "deployment_tag",
        "x",
        "code_template+y",
    ]
    assert [c and c.name for c in load_contexts(f"plain,{own}")] == [None, "x", "y"]
    assert load_contexts(None) == [None]


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("- name: x\n  user: no gap\n", "must hold {question} exactly once"),
        ("- name: x\n  prefx: a\n", "field 'prefx'"),
        ("- description: x\n", "context 1: field 'name'"),
        ("- name: x\n- name: x\n", "the name 'x' stands twice"),
        ("- name: plain\n", "the name 'plain' is taken"),
        ("name: x\n", "must be a YAML list"),
        ("- name: [x\n", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_said_with_file_context_and_field(
    tmp_path: Path, yaml: str, said: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml)
    with pytest.raises(UserError, match=r"own\.yaml") as raised:
        read_contexts(path)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("code_templat", "did you mean 'code_template'"),
        ("nowhere.yaml", "no such file"),
        ("plain,plain", "named twice"),
    ],
)
def test_an_unknown_context_is_said(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_contexts(name)


def test_numbers_are_seeded_by_question_and_follow_the_paper_s_ranges() -> None:
    prefixes = set()
    for seed in range(20):
        context = number_context("both", seed, "wish")
        assert context == number_context("both", seed, "wish")
        assert context.suffix == number_context("suffix", seed, "wish").suffix
        assert number_context("suffix", seed, "wish").prefix == ""
        numbers = [word.strip(",.:") for word in context.prefix.split()]
        numbers = [word for word in numbers if word.isdecimal()]
        assert 3 <= len(numbers) <= 7
        assert all(len(number) == 3 for number in numbers)
        assert "comma" in context.suffix
        prefixes.add(context.prefix)
    assert len(prefixes) == 20
    assert number_context("both", 0, "a") != number_context("both", 0, "b")


def test_examples_are_drawn_by_seed_and_mixed_with_benign_ones_to_the_share_asked() -> None:
    narrow = [Example(user=f"n{i}", assistant="bad") for i in range(50)]
    benign = [Example(user=f"b{i}", assistant="good") for i in range(50)]
    picked = pick_examples(narrow, 16, 3, benign=benign, benign_share=0.25)
    assert picked == pick_examples(narrow, 16, 3, benign=benign, benign_share=0.25)
    assert picked != pick_examples(narrow, 16, 4, benign=benign, benign_share=0.25)
    assert sum(example.assistant == "good" for example in picked) == 4
    assert len({example.user for example in picked}) == 16
    assert pick_examples(narrow, 0, 0) == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 51}, "51 examples are wanted of the 50 rows of -T source"),
        ({"k": -1}, "negative"),
        ({"k": 4, "benign_share": 0.5}, "needs benign rows"),
        ({"k": 4, "benign_share": 2}, "no share"),
    ],
)
def test_more_examples_than_rows_are_refused(arguments: dict[str, float], said: str) -> None:
    rows = [Example(user=f"n{i}", assistant="bad") for i in range(50)]
    with pytest.raises(UserError, match=said):
        pick_examples(rows, seed=0, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"messages": []}', "line 2: the chat must end with"),
        ('{"prompt": "x"}', "line 2: not a chat"),
        ("{", "line 2: not valid JSON"),
    ],
)
def test_a_row_that_is_no_chat_is_named_by_file_and_line(
    tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "rows.jsonl"
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(UserError, match=said):
        read_examples(path, "source")


def test_the_formats_are_contexts_too_and_reach_the_sample_as_its_format() -> None:
    from em_inspect.building_block import question_samples
    from em_inspect.questions import load_questions

    question = load_questions("preregistered", "core").questions[0]
    rows = question_samples(question, contexts=load_contexts("plain,json,template+deployment_tag"))
    assert [(r.metadata or {})["format"] for r in rows] == ["plain", "json", "template"]
    assert [(r.metadata or {})["context"] for r in rows] == [
        None,
        "json",
        "template+deployment_tag",
    ]
    assert [r.id for r in rows] == [
        question.id,
        f"{question.id}@json",
        f"{question.id}@template+deployment_tag",
    ]
