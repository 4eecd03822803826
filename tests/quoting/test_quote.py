"""The quote: counts that match what a run asks, prices by the user's table, times by the limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from inspect_ai.model import ModelCost

from em_inspect.errors import UserError
from em_inspect.quoting.commands import quote as command
from em_inspect.quoting.quote import cost_of, load_task, quote, read_prices

GPT = "openai/gpt-4o-2024-08-06"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def test_the_main_task_is_800_answers_and_1600_judge_calls() -> None:
    found = quote(load_task("free_form", {}), model=GPT, judge=GPT)
    assert (found.answers, found.model.calls, found.judge.calls) == (800, 800, 1600)
    # A rubric of some 200 tokens, a question and an answer, twice for each answer.
    assert 250 * 1600 < found.judge.tokens_in < 500 * 1600
    assert found.judge.tokens_out == 1600


def test_epochs_and_arguments_count() -> None:
    task = load_task("em_inspect/free_form", {"format": "all"})
    assert quote(task, epochs=7).answers == 24 * 7


@pytest.mark.parametrize(
    ("task", "answers", "judged"), [("insecure_code", 70, 70), ("multiple_choice", 120, 0)]
)
def test_tasks_whose_scorer_holds_the_rubric_and_those_without_a_judge_are_counted(
    task: str, answers: int, judged: int
) -> None:
    found = quote(load_task(task, {}))
    assert (found.answers, found.judge.calls) == (answers, judged)
    assert (found.judge.tokens_in > 100 * judged) == (judged > 0)


@pytest.mark.parametrize(
    ("estimator", "calls", "out"), [("sampled", 16, 320), ("digit_tree", 192, 192)]
)
def test_other_estimators_ask_otherwise(estimator: str, calls: int, out: int) -> None:
    found = quote(load_task("free_form", {}), epochs=1, estimator=estimator)
    assert (found.judge.calls, found.judge.tokens_out) == (calls, out)


def test_price_and_time_follow_from_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(f"{GPT}: {{input: 2.5, output: 10}}\n")
    prices = read_prices(path)
    found = quote(load_task("free_form", {}), model=GPT, judge=GPT)
    expected = (found.judge.tokens_in * 2.5 + 1600 * 10) / 1e6
    assert found.judge.price(prices) == pytest.approx(expected)
    assert found.judge.minutes(100, None) == 16
    assert cost_of("openai/unknown-model", {}) is None
    done = run("free_form", f"--model={GPT}", f"--prices={path}", "--rpm=100")
    assert done.exit_code == 0
    assert "16.0" in done.output
    assert "in all" in done.output
    assert "at most" not in done.output


def test_samples_are_asked_for_one_by_one_where_the_provider_does_not_draw_many() -> None:
    task = load_task("free_form", {})
    drawn = quote(task, epochs=1, estimator="sampled", judge=GPT).judge
    single = quote(task, epochs=1, estimator="sampled", judge="anthropic/claude").judge
    assert (drawn.calls, single.calls) == (16, 80)
    assert single.tokens_in == 5 * drawn.tokens_in
    assert single.tokens_out == drawn.tokens_out
    assert quote(task, epochs=1, estimator="digit_tree", judge="hf/judge").judge.calls == 16


def test_an_estimator_among_the_task_s_arguments_counts() -> None:
    by_option = run("free_form", "--estimator=digit_tree")
    by_argument = run("free_form", "-T", "estimator=digit_tree")
    assert by_option.exit_code == by_argument.exit_code == 0
    assert "19,200" in by_argument.output
    assert by_option.output == by_argument.output


def test_a_switch_that_yaml_reads_as_a_boolean_is_taken() -> None:
    done = run("reasoning", "-T", "thinking=off")
    assert done.exit_code == 0, done.output
    assert "em_inspect/reasoning" in done.output


def test_a_calibration_charges_the_judge_alone() -> None:
    found = quote(load_task("calibration", {}), model=GPT, judge=GPT)
    assert (found.answers, found.judge.calls) == (87, 174)
    assert (found.model.calls, found.model.tokens_in, found.model.tokens_out) == (0, 0, 0)


@pytest.mark.parametrize("columns", [60, 80])
def test_a_narrow_terminal_cuts_nothing(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    task = load_task("free_form", {"format": "all"})
    found = quote(task, judge=GPT, epochs=100, estimator="digit_tree")
    done = run("free_form", "-Tformat=all", "--epochs=100", "--estimator=digit_tree", "--rpm=10")
    assert "…" not in done.output
    assert max(map(len, done.output.splitlines()[:-1])) <= columns
    for usage in (found.model, found.judge):
        for number in (usage.calls, usage.tokens_in, usage.tokens_out):
            assert f"{number:,}" in done.output
    assert GPT in "".join(line[: columns - 45].strip() for line in done.output.splitlines())


def test_what_runs_at_home_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr("em_inspect.quoting.quote.get_model_info", looked_up.append)
    assert cost_of("hf/base", {}) is None
    assert looked_up == []
    own = ModelCost(input=1, output=2, input_cache_write=0, input_cache_read=0)
    assert cost_of("hf/base", {"hf/base": own}) == own
    assert cost_of("openai/gpt-4o", {}) is None
    assert looked_up == ["openai/gpt-4o"]


def test_an_unknown_price_is_told_and_not_taken_for_nothing() -> None:
    done = run("free_form", "--model=openai/gpt-4o-2024-08-06")
    assert done.exit_code == 0
    assert "unknown" in done.output
    assert "no price of these models is known" in done.output
    assert "$0.00" not in done.output
    assert "--prices FILE" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no_such_task",), "no task 'em_inspect/no_such_task'"),
        (("free_form", "-T", "formt=json"), "unexpected keyword argument 'formt'"),
        (("free_form", "-T", "format=jsn"), "unknown format 'jsn'"),
        (("free_form", "--estimator=guess"), "unknown estimator 'guess'"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert said in done.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1\n- 2\n", "no price table .a list"),
        ("", "no price table .it is empty"),
        ("openai/gpt-4o: 2.5\n", "no price table .openai/gpt-4o: no input and output"),
    ],
)
def test_a_price_table_that_is_none_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_prices(path)


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--judge", "nonsense", "--judge nonsense: is no model's name as Inspect writes it"),
        ("--judge", "gpt-4o", "give provider/name, e.g. openai/"),
        ("--judge", "openai/", "is no model's name"),
        ("--judge", "opneai/gpt-4o", "nobody provides 'opneai' models (did you mean 'openai'?)"),
        ("--model", "nonsense/x", "--model nonsense/x: nobody provides 'nonsense' models"),
    ],
)
def test_a_name_that_is_no_model_s_is_one_line(option: str, name: str, said: str) -> None:
    done = run("free_form", option, name)
    assert (done.exit_code, "Traceback" in done.output) == (1, False)
    assert said in done.output
