"""What an exception means, in one line: a service's own words, and nothing that was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from fine_tuning_server import KEY, Answer, serving

from em_inspect.errors import UserError, one_line

REFUSALS = [
    (400, {"error": {"message": "Unknown parameter: 'top_k'."}}, "Unknown parameter: 'top_k'."),
    (403, {"detail": "This base is for paying teams."}, "This base is for paying teams."),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "too many"}]}, "body.n: too many"),
    (422, {"error": "use [code] in brackets"}, "use [code] in brackets"),
    (404, b"<html><title>Not here</title></html>", "Not here"),
]


@contextmanager
def refused(status: int, body: Any) -> Iterator[str]:
    with serving(before=lambda call: Answer(status, body)) as server:
        yield server.url


@pytest.mark.parametrize(("status", "body", "words"), REFUSALS)
def test_a_services_words_come_first(status: int, body: Any, words: str) -> None:
    import openai

    with refused(status, body) as url, pytest.raises(openai.APIStatusError) as caught:
        openai.OpenAI(api_key=KEY, base_url=url).models.list()
    assert one_line(caught.value) == f"{words} (HTTP {status})"


@pytest.mark.parametrize(("status", "body", "words"), REFUSALS)
def test_the_request_is_never_what_is_shown(
    status: int, body: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspect_ai.model import get_model

    async def generate(url: str) -> None:
        async with get_model("openai/gpt-4o-x", base_url=url, memoize=False) as model:
            await model.generate("Please say YES " * 40)

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        refused(status, body) as url,
        pytest.raises(Exception, match=rf"Request|{status}") as caught,
    ):
        anyio.run(generate, url)
    assert one_line(caught.value) == f"{words} (HTTP {status})"


def test_a_log_that_kept_an_exception_as_text_says_the_words() -> None:
    body = {"error": {"message": 'It\'s [code]\nor "none"', "code": "x"}}
    for shown in (f"Error code: 400 - {body}", f"BadRequestError({f'Error code: 400 - {body}'!r})"):
        request = json.dumps({"messages": ["a\n\nb"]}, indent=2)
        kept = Exception(f"\nRequest:\n{request}\n\n{shown}")
        assert one_line(kept) == 'It\'s [code] or "none" (HTTP 400)'


def test_only_known_markup_is_taken_away() -> None:
    said = "[bold]ERROR:[/bold] pip install 'em-inspect[code]' at [1] or [bold red]x[/]"
    assert one_line(UserError(said)) == "pip install 'em-inspect[code]' at [1] or x"


def test_an_exception_without_words_is_named() -> None:
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 999))) == 200


def test_an_extra_in_brackets_reaches_the_list_of_tasks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import importlib.util

    from em_inspect.cli import main

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bandit" else find_spec(name)
    )
    done = CliRunner().invoke(main, ["tasks", "insecure_code"])
    assert "pip install 'em-inspect[code]'" in done.output
