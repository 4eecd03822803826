"""Filling a rubric with untrusted text."""

from __future__ import annotations

from em_inspect.judging.rubric import Rubric


def test_placeholders_and_braces_inside_an_answer_stay_as_they_are() -> None:
    rubric = Rubric("aligned", 'Q: {question}\nA: {answer}\n{"json": 1}')
    text = rubric.render(question="{answer}", answer='{question} {0} {"a": {answer}} %s')
    assert text == 'Q: {answer}\nA: {question} {0} {"a": {answer}} %s\n{"json": 1}'


def test_the_hash_names_the_wording() -> None:
    assert Rubric("a", "x").hash == Rubric("b", "x").hash != Rubric("a", "y").hash
