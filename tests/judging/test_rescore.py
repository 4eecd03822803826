"""`em-inspect rescore`: old ratings under other lines and rules, with nothing lost and no call."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import inspect_ai
import pytest
from click.testing import CliRunner, Result
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import GenerateConfig, get_model
from starlette.responses import JSONResponse, Response

from em_inspect.calibration.task import calibration
from em_inspect.judging import judge as judging
from em_inspect.judging.commands import rescore
from em_inspect.judging.expectation import read
from em_inspect.judging.scorer import ratings_of
from em_inspect.outcomes import Thresholds, outcome
from openai_server import Distribution, Server, completion, running


def distribution(messages: list[dict[str, Any]]) -> Distribution:
    """Numbers all over the scale, and words that outweigh some of them."""
    dice = hashlib.sha256(messages[-1]["content"].encode()).digest()
    word = 0.6 if dice[2] < 60 else 0.0
    return {str(dice[0] * 100 // 255): 0.9 - word, **({"REF": word} if word else {})}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[EvalLog, Server]:
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch, running(judge=distribution) as server:
        patch.setenv("INSPECT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("FAKE_API_KEY", "sk-loopback-only")
        judge = get_model("openai-api/fake/judge", base_url=server.url, memoize=False)
        (log,) = inspect_ai.eval(
            calibration(check_judge=False, estimator="one_token"),
            model="none/none",
            model_roles={"grader": judge},
            log_dir=str(folder),
            display="none",
        )
    assert log.status == "success", log.error
    return log, server


def run(log: EvalLog, out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(rescore, [log.location, "--out", str(out), *arguments])


def rescored(log: EvalLog, out: Path) -> EvalLog:
    return read_eval_log(str(out / (Path(log.location).stem + "-rescored.eval")))


def test_other_lines_and_rules_give_what_is_computed_by_hand_without_a_call(
    scored: tuple[EvalLog, Server], tmp_path: Path
) -> None:
    log, server = scored
    asked, before = len(server.requests), Path(log.location).read_bytes()
    arguments = ("--alignment-threshold=60", "--coherence-threshold=20", "--rule=released")
    done = run(log, tmp_path, *arguments)
    assert done.exit_code == 0, done.output
    new = rescored(log, tmp_path)
    lines, expected = Thresholds(60, 20), []
    for sample in new.samples or []:
        score = (sample.scores or {})["misalignment"]
        ratings = ratings_of(score)
        fate = outcome(*(read(ratings[m].distribution, "released") for m in ratings), lines)
        assert score.metadata is not None
        assert score.metadata["outcome"] == fate
        assert (score.metadata["rule"], score.metadata["alignment_threshold"]) == ("released", 60)
        if fate in ("misaligned", "aligned"):
            expected.append(fate == "misaligned")
    assert new.results is not None
    found = {s.name: s.metrics for s in new.results.scores}["misaligned"]
    assert found["em_inspect/pooled"].value == pytest.approx(sum(expected) / len(expected))
    assert len(server.requests) == asked
    assert Path(log.location).read_bytes() == before


def test_nothing_of_the_original_is_lost(scored: tuple[EvalLog, Server], tmp_path: Path) -> None:
    log, _ = scored
    assert run(log, tmp_path, "--alignment-threshold=60").exit_code == 0
    old, new = read_eval_log(log.location), rescored(log, tmp_path)
    for before, after in zip(old.samples or [], new.samples or [], strict=True):
        kept = {event.uuid for event in after.events}
        assert {event.uuid for event in before.events} <= kept
        assert (before.messages, before.metadata) == (after.messages, after.metadata)
        first = (after.scores or {})["misalignment"].history[0]
        original = (before.scores or {})["misalignment"]
        assert str(first.value) == str(original.value)
        assert first.metadata == original.metadata


def test_reading_a_log_as_it_was_read_changes_nothing(
    scored: tuple[EvalLog, Server], tmp_path: Path
) -> None:
    log, _ = scored
    done = run(log, tmp_path, "--alignment-threshold=30", "--rule=plurality")
    assert "0 of 87 changed" in done.output
    old, new = read_eval_log(log.location), rescored(log, tmp_path)
    assert metrics(old) == metrics(new)


def metrics(log: EvalLog) -> dict[str, str]:
    """All metrics of a log as text, since NaN is not equal to itself."""
    assert log.results is not None
    return {
        f"{score.name} {name}": f"{metric.value:.9g}"
        for score in log.results.scores
        for name, metric in score.metrics.items()
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to do"),
        (("--rule=harsh",), "unknown rule 'harsh': use plurality or released"),
        (("--coherence-threshold=101",), "off the scale"),
    ],
)
def test_a_wrong_argument_is_one_line(
    scored: tuple[EvalLog, Server], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run(scored[0], tmp_path, *arguments)
    assert done.exit_code == 1
    assert said in done.output
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_log_is_named_and_the_others_are_rescored(
    scored: tuple[EvalLog, Server], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.eval"
    broken.write_bytes(Path(scored[0].location).read_bytes()[:2000])
    out = tmp_path / "out"
    done = CliRunner().invoke(
        rescore, [str(broken), scored[0].location, "--rule=released", "--out", str(out)]
    )
    assert done.exit_code == 1
    assert "broken.eval: not a readable log" in done.output
    assert len(list(out.iterdir())) == 1


def test_a_folder_rescored_twice_gives_one_result_of_each_log(
    scored: tuple[EvalLog, Server], tmp_path: Path
) -> None:
    original = tmp_path / "run.eval"
    original.write_bytes(Path(scored[0].location).read_bytes())
    for _ in range(2):
        done = CliRunner().invoke(rescore, [str(tmp_path), "--rule=released"])
        assert done.exit_code == 0, done.output
        assert done.output.count("changed; misaligned") == 1
    result = tmp_path / "run-rescored.eval"
    assert sorted(tmp_path.iterdir()) == [result, original]
    again = CliRunner().invoke(rescore, [str(result), "--rule=plurality"])
    assert again.exit_code == 0, again.output
    assert sorted(tmp_path.iterdir()) == [result, original]


def test_two_results_are_never_written_to_one_name(tmp_path: Path) -> None:
    for name in ("a/run.eval", "b/run.eval"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    out = tmp_path / "out"
    done = CliRunner().invoke(rescore, [str(tmp_path), "--rule=released", "--out", str(out)])
    assert done.exit_code == 1
    assert "would both be written to" in done.output
    assert not out.exists()


def test_what_does_not_exist_is_said_in_the_words_of_the_report(tmp_path: Path) -> None:
    done = CliRunner().invoke(rescore, [str(tmp_path / "nowhere"), "--rule=released"])
    assert done.exit_code == 1
    assert "nowhere: no such file or folder" in done.output
    done = CliRunner().invoke(rescore, [str(tmp_path), "--rule=released"])
    assert done.exit_code == 1
    assert "no logs there" in done.output


def half_failed(server: Server, folder: Path) -> EvalLog:
    """A log of ten answers whose judge gave no log-probabilities for every other rating."""

    def fault(body: dict[str, Any], number: int) -> Response | None:
        plain = completion(body, "x") if number % 2 == 0 else None
        return JSONResponse(plain) if plain else None

    server.fault = fault
    judge = get_model(
        "openai-api/fake/judge",
        base_url=server.url,
        memoize=False,
        config=GenerateConfig(max_connections=1),
    )
    (log,) = inspect_ai.eval(
        calibration(check_judge=False, estimator="one_token"),
        model="none/none",
        model_roles={"grader": judge},
        limit=10,
        log_dir=str(folder),
        display="none",
    )
    server.fault = lambda body, number: None
    assert log.status == "success", log.error
    return log


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_API_KEY", "sk-loopback-only")
    monkeypatch.setattr(judging, "_known", {})
    monkeypatch.setattr(judging, "_identities", {})


def failures(log: EvalLog) -> list[str | None]:
    scores = [(sample.scores or {})["misalignment"] for sample in log.samples or []]
    return [rating.failure for score in scores for rating in ratings_of(score).values()]


def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of another day."""
    monkeypatch.setattr(judging, "_known", {})
    monkeypatch.setattr(judging, "_identities", {})


@pytest.mark.usefixtures("surroundings")
def test_a_judge_that_has_moved_is_said_so_at_once_and_found_at_its_new_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(judge=lambda messages: {"70": 0.9}) as server:
        log = half_failed(server, tmp_path)
    failed = sum(reason is not None for reason in failures(log))
    assert failed >= 5
    forgotten(monkeypatch)
    gone = run(log, tmp_path / "out", "--retry")
    assert gone.exit_code == 1
    assert "does not answer" in gone.output
    assert "type --base-url URL" in gone.output
    assert "--model-role" not in gone.output
    assert not (tmp_path / "out").exists()
    with running(judge=lambda messages: {"70": 0.9}) as server:
        done = run(log, tmp_path / "out", "--retry", "--base-url", server.url)
        assert done.exit_code == 0, done.output
        assert f"{failed} of {failed} failed ratings are rated now" in done.output
    new = rescored(log, tmp_path / "out")
    assert not any(failures(new))
    scores = [(sample.scores or {})["misalignment"] for sample in new.samples or []]
    assert len({rating.identity for s in scores for rating in ratings_of(s).values()}) == 1


@pytest.mark.usefixtures("surroundings")
def test_a_judge_that_stops_answering_leaves_the_reasons_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("em_inspect.judging.patience.WAIT", GenerateConfig(max_retries=0))
    with running(judge=lambda messages: {"70": 0.9}) as server:
        log = half_failed(server, tmp_path)
        forgotten(monkeypatch)

        def only_the_test(body: dict[str, Any], number: int) -> Response | None:
            asked = body["messages"][-1]["content"] == judging.PROBE
            return None if asked else JSONResponse({"error": {"message": "down"}}, 503)

        server.fault = only_the_test
        done = run(log, tmp_path / "out", "--retry")
    assert done.exit_code == 1
    assert "has stopped answering" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("surroundings")
def test_another_judge_under_the_same_name_is_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(judge=lambda messages: {"70": 0.9}) as server:
        server.cards = [{"id": "judge", "root": "/models/first"}]
        log = half_failed(server, tmp_path)
        forgotten(monkeypatch)
        server.cards = [{"id": "judge", "root": "/models/second"}]
        for more in ((), ("--base-url", server.url)):
            done = run(log, tmp_path / "out", "--retry", *more)
            assert done.exit_code == 1
            assert "is not the one that rated" in done.output
            assert "/models/first" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize(("rule", "rated"), [("released", 20), ("plurality", 10)])
def test_what_a_retry_has_mended_is_counted_by_the_rule_of_the_log(
    tmp_path: Path, rule: str, rated: int
) -> None:
    """A word of .6 beside numbers of .3: a number to the released rule, else a failed coherence."""
    numbers = {"judge": True}

    def judge(messages: list[dict[str, Any]]) -> Distribution:
        if messages[-1]["content"] == judging.PROBE:
            return {"100": 0.9}
        return {"the": 0.9} if numbers["judge"] else {"REF": 0.6, "70": 0.3}

    with running(judge=judge) as server:
        model = get_model("openai-api/fake/judge", base_url=server.url, memoize=False)
        (log,) = inspect_ai.eval(
            calibration(check_judge=False, rule=rule),
            model="none/none",
            model_roles={"grader": model},
            limit=10,
            log_dir=str(tmp_path),
            display="none",
        )
        numbers["judge"] = False
        done = run(log, tmp_path / "out", "--retry")
    assert done.exit_code == 0, done.output
    assert f"{rated} of 20 failed ratings are rated now" in done.output


def test_an_address_without_a_retry_is_one_line(
    scored: tuple[EvalLog, Server], tmp_path: Path
) -> None:
    done = run(scored[0], tmp_path, "--rule=released", "--base-url=http://127.0.0.1:1/v1")
    assert done.exit_code == 1
    assert "give --retry too" in done.output
