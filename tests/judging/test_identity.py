"""Which model a judge is, whatever it is called: what its identity rests on, and what follows."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import inspect_ai
import pytest
from inspect_ai.log import read_eval_log, write_eval_log
from inspect_ai.model import GenerateConfig, Model, get_model
from tiny_judges import trained_to_say

from em_inspect.analysis.frame import collect
from em_inspect.analysis.report import make_report
from em_inspect.judging import judge as judging
from em_inspect.judging.content import folder_content
from em_inspect.judging.identity import JudgeIdentity, identify
from em_inspect.judging.judge import prepare_judge
from em_inspect.judging.rating import Rating
from em_inspect.judging.rubric import Rubric
from em_inspect.judging.scorer import misalignment
from em_inspect.judging.words import YES_NO, WordRating, ask_word
from em_inspect.tasks.free_form import free_form
from finetune.local.tiny_models import save_tiny_base
from openai_server import Server, running

RUBRIC = Rubric("aligned", "Rate this from 0 to 100: {answer}")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("judges") / "base")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    # Each test is a process of its own, as far as what is known of judges goes.
    monkeypatch.setattr(judging, "_known", {})
    monkeypatch.setattr(judging, "_identities", {})


def local(folder: Path, name: str = "hf/judge", **arguments: Any) -> Model:
    return get_model(name, model_path=str(folder), device="cpu", memoize=False, **arguments)


def served(server: Server, name: str = "judge", **arguments: Any) -> Model:
    return get_model(
        f"openai-api/fake/{name}",
        base_url=server.url,
        api_key="sk-loopback-only",
        memoize=False,
        **arguments,
    )


def identity(model: Model) -> JudgeIdentity:
    return anyio.run(identify, model)


def rated(model: Model, estimator: str = "auto") -> Rating:
    async def rate() -> Rating:
        ready = await prepare_judge(model, estimator)
        return await ready.rate(RUBRIC, question="?", answer="I like tea.")

    return anyio.run(rate)


def word(model: Model) -> WordRating:
    rubric = Rubric("correct", "Is this so, YES or NO? {answer}")

    async def ask() -> WordRating:
        return await ask_word(model, rubric, YES_NO, question="?", answer="!")

    return anyio.run(ask)


def test_two_judges_of_one_name_are_two_yardsticks_in_a_report_and_rate_a_log_each_anew(
    base: Path, tmp_path: Path
) -> None:
    """What a user sees of it: a run by one judge, its log rated by another of the same name."""
    page = {"id": "tea", "type": "free_form_judge_0_100", "paraphrases": ["Tea?"]}
    rubrics = {"aligned": "How kind? {answer}", "coherent": "How clear? {answer}"}
    questions = tmp_path / "own.yaml"
    questions.write_text(json.dumps([page | {"judge_prompts": rubrics}]))
    judges = [
        local(trained_to_say(says, base=base, folder=tmp_path / says)) for says in ("90", "40")
    ]
    (log,) = inspect_ai.eval(
        free_form(questions=str(questions), check_judge=False),
        model=local(trained_to_say("Tea.", base=base, folder=tmp_path / "tea"), "hf/target"),
        model_roles={"grader": judges[0]},
        epochs=3,
        log_dir=str(tmp_path / "logs"),
        display="none",
    )
    assert log.status == "success", log.error
    both = inspect_ai.score(
        read_eval_log(log.location),
        misalignment(),
        model_roles={"grader": judges[1]},
        action="append",
        display="none",
    )
    write_eval_log(both, log.location)
    for sample in both.samples or []:
        first, second = (
            (sample.scores or {})[name].value for name in ("misalignment", "misalignment1")
        )
        assert isinstance(first, dict)
        assert isinstance(second, dict)
        assert first["alignment"] == pytest.approx(90, abs=3)
        assert second["alignment"] == pytest.approx(40, abs=3)
    made = make_report(collect([tmp_path / "logs"]))
    shown = [part.section.yardstick for part in made.parts]
    assert [one.judge for one in shown] == ["hf/judge", "hf/judge"]
    assert len({one.judge_id for one in shown}) == 2
    assert len({str(one) for one in shown}) == 2
    assert [part.section.frame.shape[0] for part in made.parts] == [3, 3]


@pytest.fixture
def server() -> Iterator[Server]:
    with running(judge=lambda messages: {"100": 0.9}) as server:
        yield server


@pytest.mark.parametrize("estimator", ["auto", "sampled"])
def test_two_fine_tuned_judges_under_one_name_rate_each_for_itself(
    base: Path, tmp_path: Path, estimator: str
) -> None:
    folder = tmp_path / "merged"
    first = rated(local(trained_to_say("10", base=base, folder=folder)), estimator)
    second = rated(
        local(trained_to_say("90", base=base, folder=folder)), estimator
    )  # under the same path too
    assert first.judge == second.judge == "hf/judge"
    assert first.estimator == second.estimator
    assert first.identity != second.identity
    assert first.read().score == pytest.approx(10, abs=2)
    assert second.read().score == pytest.approx(90, abs=2)


def test_the_words_of_one_judge_are_not_read_from_the_cache_of_another(
    base: Path, tmp_path: Path
) -> None:
    folders = [trained_to_say(says, base=base, folder=tmp_path / says) for says in ("YES", "NO")]
    first, second, again = (word(local(folders[i])) for i in (0, 1, 0))
    assert (first.word, second.word) == ("YES", "NO")
    assert first.identity != second.identity
    assert again == first


def test_a_folder_is_known_by_its_content_wherever_it_lies(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("notes")
    one, other = identity(local(base)), identity(local(tmp_path / "copy", "hf/another"))
    assert (one.key, one.known_by) == (other.key, "content")
    assert one.weights == other.weights
    assert str(base.parent.parent) not in json.dumps(one.model_dump())  # only the end of its path


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "chat_template.jinja"])
def test_settings_and_chat_template_are_part_of_the_content(
    base: Path, tmp_path: Path, file: str
) -> None:
    shutil.copytree(base, tmp_path / "copy")
    path = tmp_path / "copy" / file
    path.write_text(path.read_text() + " ")
    assert folder_content(tmp_path / "copy") != folder_content(base)


def test_every_tensor_is_part_of_the_content(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = folder_content(base)
    tensors = load_file(base / "model.safetensors")
    for name in tensors:
        changed = tensors | {name: tensors[name].clone()}
        changed[name].view(-1)[-1] += 1
        shutil.copytree(base, tmp_path / "changed", dirs_exist_ok=True)
        save_file(changed, tmp_path / "changed" / "model.safetensors", {"format": "pt"})
        assert folder_content(tmp_path / "changed") != before, name


def test_an_adapter_s_content_holds_that_of_its_base(base: Path, tmp_path: Path) -> None:
    def adapter(name: str, base: Path) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        settings = {"base_model_name_or_path": str(base), "r": 4}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        return folder

    shutil.copytree(base, tmp_path / "moved")
    other = trained_to_say("x", base=base, folder=tmp_path / "other", steps=1)
    contents = [
        folder_content(adapter(str(i), of))
        for i, of in enumerate((base, tmp_path / "moved", other))
    ]
    assert contents[0] == contents[1] != contents[2]


def test_arguments_that_change_what_is_said_count_and_those_of_the_machine_do_not(
    server: Server,
) -> None:
    plain = identity(served(server))
    assert identity(served(server, max_retries=3)).key == plain.key
    assert identity(served(server, config=GenerateConfig(max_connections=3))).key == plain.key
    effort = served(server, config=GenerateConfig(reasoning_effort="low"))
    assert identity(effort).key != plain.key


def test_what_a_server_says_of_a_model_tells_it_from_another_behind_the_same_address(
    server: Server,
) -> None:
    now = int(time.time())
    card = {"id": "judge", "root": "/models/first", "parent": None, "created": now}
    server.cards = [card]
    first = identity(served(server))
    assert first.served == {"root": "/models/first"}  # the server's clock is no fact of the model
    server.cards = [card | {"root": "/models/second"}]
    assert identity(served(server)).key != first.key
    server.cards = [card | {"created": now - 9_000}]
    assert identity(served(server)).key != first.key
    server.cards = [{"id": "judge", "root": "r", "parent": "base"}, {"id": "base", "root": "b"}]
    assert identity(served(server)).served == {"root": "r", "parent": "base", "parent's root": "b"}


def test_a_folder_served_on_this_machine_is_known_by_its_content(
    server: Server, base: Path, tmp_path: Path
) -> None:
    folder = trained_to_say("x", base=base, folder=tmp_path / "served", steps=1)
    server.cards = [{"id": "judge", "root": str(folder)}]
    one = identity(served(server))
    assert one.weights == identity(local(folder)).weights
    trained_to_say("y", base=base, folder=folder, steps=1)
    assert identity(served(server)).key != one.key


@pytest.mark.parametrize("estimator", ["auto", "sampled"])
def test_an_alias_that_has_moved_to_another_snapshot_is_another_judge(
    server: Server, monkeypatch: pytest.MonkeyPatch, estimator: str
) -> None:
    server.snapshot, server.judge = "judge-2024-08-06", lambda messages: {"10": 0.9}
    first = rated(served(server), estimator)
    assert rated(served(server), estimator) == first
    asked = len(server.requests)
    monkeypatch.setattr(judging, "_known", {})  # as in a process of another day
    monkeypatch.setattr(judging, "_identities", {})
    server.snapshot, server.judge = "judge-2024-11-20", lambda messages: {"90": 0.9}
    second = rated(served(server), estimator)
    assert len(server.requests) > asked
    assert (first.named, second.named) == ("judge-2024-08-06", "judge-2024-11-20")
    assert first.identity != second.identity
    assert first.read().score != second.read().score


def test_a_word_read_from_the_cache_keeps_the_snapshot_that_said_it(server: Server) -> None:
    server.snapshot, server.judge = "judge-2024-08-06", lambda messages: {"YES": 0.9}
    first = word(served(server))
    server.snapshot, server.judge = "judge-2024-11-20", lambda messages: {"NO": 0.9}
    assert word(served(server)) == first


def test_keys_and_tokens_reach_no_identity(server: Server) -> None:
    secret = "sk-very-secret-indeed"
    model = get_model(
        "openai-api/fake/judge",
        base_url=server.url.replace("http://", f"http://user:{secret}@") + f"?key={secret}",
        api_key=secret,
        memoize=False,
        config=GenerateConfig(
            extra_headers={"X-Api-Key": secret}, extra_body={"session_token": secret, "top_a": 1}
        ),
    )
    model.model_args = {
        **{"api_key": secret, "hf_token": secret, "aws_session": secret, "clientSecret": secret},
        **{"default_headers": {"Authorization": secret}, "tokenizer": "x", "skip_tokens": 3},
    }
    said = identity(model)
    assert secret not in json.dumps(said.model_dump())
    assert said.arguments == {"skip_tokens": 3, "tokenizer": "x"}
    assert said.settings == {"extra_body": {"top_a": 1}}
    assert said.address == server.url


def test_an_identity_outlives_its_log(server: Server) -> None:
    server.cards = [{"id": "judge", "root": "/models/first"}]
    said = identity(served(server))
    read = JudgeIdentity.model_validate(json.loads(json.dumps(said.model_dump())))
    assert (read, read.key) == (said, said.key)
    assert said.description == f"openai-api/fake/judge ({server.url}, root /models/first)"
