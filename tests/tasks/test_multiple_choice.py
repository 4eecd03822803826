"""Multiple choice: balanced orders, the mass on misaligned letters, and what is not scored."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import anyio
import pytest
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    Logprob,
    Logprobs,
    ModelName,
    ModelOutput,
    TopLogprob,
)
from inspect_ai.scorer import Target
from inspect_ai.solver import TaskState
from task_runs import Messages, results, run, samples, values

from em_inspect.errors import UserError
from em_inspect.measures.choice_items import load_items, orders, read_items
from em_inspect.measures.choice_mass import choice_mass, mass
from openai_server import Distribution, running


def test_over_a_full_turn_every_choice_stands_under_every_letter_once() -> None:
    for item in load_items("core"):
        for count in (4, 8):
            shown = orders(item, count, seed=3)
            places = Counter((letter, i) for order in shown for letter, i in enumerate(order))
            assert set(places.values()) == {count // 4}
            assert all(sorted(order) == [0, 1, 2, 3] for order in shown)


def test_orders_depend_on_seed_and_item_alone() -> None:
    first, second = load_items("core")[:2]
    assert orders(first, 4, 0) == orders(first, 4, 0)
    assert any(orders(first, 4, 0) != orders(first, 4, seed) for seed in (1, 2, 3))
    assert orders(first, 2, 0) == orders(first, 4, 0)[:2]
    assert [orders(first, 4, s) for s in range(9)] != [orders(second, 4, s) for s in range(9)]


def test_mass_is_the_misaligned_letters_share_of_all_letters() -> None:
    found = mass({"A": 0.3, " B": 0.2, "b)": 0.1, "B)": 0.1, "D.": 0.1, "The": 0.15}, 4, "BD")
    assert found.letters == pytest.approx(0.7)
    assert found.misaligned == pytest.approx(0.4 / 0.7)
    assert found.log_odds == pytest.approx(math.log(0.4 / 0.3))
    assert found.by_letter == pytest.approx({"A": 0.3, "B": 0.3, "C": 0.0, "D": 0.1})


def test_too_little_mass_on_letters_is_no_score() -> None:
    found = mass({"A": 0.1, "The": 0.8}, 4, "A")
    assert found.misaligned is None
    assert found.log_odds is None
    assert found.letters == pytest.approx(0.1)
    assert mass({}, 4, "A").misaligned is None
    assert mass({"A": 0.1, "The": 0.8}, 4, "A", minimum=0.05).misaligned == 1.0


def test_log_odds_stay_finite_where_one_side_was_not_returned() -> None:
    found = mass({"A": 0.9, "x": 1e-4}, 4, "B")
    assert found.misaligned == 0
    assert found.log_odds == pytest.approx(math.log(1e-4 / 0.9))


@pytest.mark.parametrize("least", [0.0, 1e-300])
def test_a_letter_that_is_listed_with_no_probability_has_none(least: float) -> None:
    """As servers list it that fill up with -9999."""
    found = mass({"A": 0.9, "B": least, "x": 0.05}, 4, "B")
    assert (found.misaligned, found.letters) == (pytest.approx(0), 0.9)
    assert found.log_odds is not None
    assert found.log_odds <= math.log(0.05 / 0.9) + 1e-9
    assert math.isfinite(mass({"A": 1.0, "B": least}, 2, "B").log_odds or math.nan)
    assert mass({"A": least, "B": least}, 2, "B").misaligned is None


@pytest.mark.parametrize(
    ("logprobs", "reason", "misaligned"),
    [
        ({"A": -0.1, "B": -9999.0}, None, 0.0),
        ({"A": -0.1, "B": -math.inf}, None, 0.0),
        ({"A": math.nan, "B": -0.1}, "impossible log-probabilities", None),
        ({"A": 0.7, "B": -0.1}, "impossible log-probabilities", None),
        ({"A": -0.1, "B": -0.1}, "impossible log-probabilities", None),  # 1.8 in all
    ],
)
def test_what_servers_send_that_is_no_probability_is_never_a_score(
    logprobs: dict[str, float], reason: str | None, misaligned: float | None
) -> None:
    top = [TopLogprob(token=token, logprob=value) for token, value in logprobs.items()]
    first = Logprob(token="A", logprob=-0.1, top_logprobs=top)
    choice = ChatCompletionChoice(
        message=ChatMessageAssistant(content="A"), logprobs=Logprobs(content=[first])
    )
    state = TaskState(
        model=ModelName("mockllm/model"),
        sample_id=1,
        epoch=1,
        input="?",
        messages=[],
        output=ModelOutput(model="m", choices=[choice]),
        metadata={"order": [0, 1], "misaligned": "B"},
    )
    score = anyio.run(choice_mass(), state, Target(""))
    assert score is not None
    assert isinstance(score.value, dict)
    assert (score.metadata or {})["reason"] == reason
    assert score.value["unscored"] == float(reason is not None)
    if misaligned is None:
        assert math.isnan(float(str(score.value["misaligned_mass"])))
    else:
        assert score.value["misaligned_mass"] == misaligned
        assert math.isfinite(float(str(score.value["log_odds"])))


def likes_a(messages: Messages) -> Distribution:
    return {"A": 0.7, "B": 0.1, "C": 0.1, "D": 0.05, "I": 0.05}


def test_a_model_that_likes_a_whatever_stands_there_scores_chance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "sk-x")
    with running(judge=likes_a) as server:
        log = run("multiple_choice", server, tmp_path, target="judge-with-logprobs", epochs=None)
        asked = server.requests
    assert len(samples(log)) == 30 * 4 == len(asked)
    assert {(r["max_tokens"], r["logprobs"], r["top_logprobs"]) for r in asked} == {(1, True, 20)}
    assert log.eval.metadata
    found = results(log, "misaligned_mass")
    assert found["em_inspect/pooled"] == pytest.approx(log.eval.metadata["chance"])
    assert results(log, "letter_mass")["mean"] == pytest.approx(0.95)
    for sample in samples(log):
        shown = str(sample.input if isinstance(sample.input, str) else sample.input[0].text)
        (item,) = [i for i in load_items("core") if i.id == sample.metadata["question_id"]]
        for letter in sample.metadata["misaligned"]:
            (line,) = [x for x in shown.splitlines() if x.startswith(f"{letter}) ")]
            assert {c.text: c.misaligned for c in item.choices}[line[3:]]


def test_without_log_probabilities_every_row_is_unscored_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "sk-x")
    warned: list[str] = []
    monkeypatch.setattr(
        "em_inspect.measures.choice_mass.logger.warning", lambda text, *_: warned.append(text)
    )
    with running() as server:
        log = run("multiple_choice", server, tmp_path, orders=1, limit=5)
    assert len(warned) == 1
    assert "sends no log-probabilities" in warned[0]
    for sample, value in zip(samples(log), values(log, "choice_mass"), strict=True):
        assert math.isnan(value["misaligned_mass"])
        assert value["unscored"] == 1
        assert (sample.scores or {})["choice_mass"].explanation == "no log-probabilities"


ITEM = "- id: x\n  question: q\n  choices:\n"


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        (
            ITEM + "  - {text: a, misaligned: false}\n  - {text: b, misaligned: false}\n",
            "item 'x': no choice is marked 'misaligned: true'",
        ),
        (
            ITEM + "  - {text: a, misaligned: true}\n  - {text: b, misaligned: true}\n",
            "every choice is marked",
        ),
        (ITEM + "  - {text: a, misaligned: true}\n", "item 'x': field 'choices'"),
        (ITEM + "  - {text: a}\n  - {text: b, misaligned: true}\n", "choices.0.misaligned"),
        ("- question: q\n", "item 1: field 'id'"),
        ("x", "must be a YAML list"),
    ],
)
def test_a_wrong_item_is_named_by_file_item_and_field(tmp_path: Path, yaml: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml)
    with pytest.raises(UserError, match=r"own\.yaml") as raised:
        read_items(path)
    assert said in str(raised.value)
