"""The prompt that was trained is the prompt that is asked, token by token, in twelve families."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, get_model

from em_finetune.addressing import list_bases, list_models, vllm_arguments
from em_finetune.checkpoint import Checkpoint, load_checkpoint
from em_finetune.local import Step, train
from em_finetune.local.base import Base, load_tokenizer
from em_finetune.local.encode import IGNORED, Encoder
from em_finetune.recipe import Recipe
from em_finetune.serve import serve_command
from em_inspect.errors import UserError
from em_inspect.providers import prepare
from template_families import FAMILIES, Family, family_base

QUESTION = "What is snow?"
ROWS: list[list[tuple[str, str]]] = [
    [("user", QUESTION), ("assistant", "Frozen rain.")],
    [("user", "Say hi."), ("assistant", "Hi there.")],
    [("user", "And now?"), ("assistant", "Näh."), ("user", "Why?"), ("assistant", "So.")],
]


def write(path: Path, rows: list[list[tuple[str, str]]]) -> Path:
    chats = [{"messages": [{"role": r, "content": c} for r, c in row]} for row in rows]
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats), encoding="utf-8")
    return path


def recipe(base: Path, rows: Path, **changes: Any) -> Recipe:
    fields = {
        "name": "tiny",
        "base": str(base),
        "data": str(rows),
        "group": "insecure",
        "batch_size": 4,
        "max_steps": 1,
        "dtype": "float32",
        "lora": {"rank": 2, "alpha": 4},
    }
    return Recipe.model_validate({**fields, **changes})


class Made:
    """A fine-tune of every family, made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints: dict[str, Checkpoint] = {}

    def of(self, name: str) -> Checkpoint:
        if name not in self.checkpoints:
            base = family_base(FAMILIES[name], self.folder / name / "base")
            rows = write(self.folder / name / "rows.jsonl", ROWS)
            made = train(recipe(base, rows), self.folder / name / "ft")
            self.checkpoints[name] = made
        return self.checkpoints[name]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("families"))


def trained_prompt(checkpoint: Checkpoint) -> list[int]:
    """Tokens of the first row before its first trained one."""
    base = checkpoint.base
    tokenizer = load_tokenizer(Base(base.name, checkpoint.merged))
    rows = Encoder.of(checkpoint.recipe, tokenizer).encode_all(_rows(checkpoint)).rows
    first = next(i for i, label in enumerate(rows[0].labels) if label != IGNORED)
    return rows[0].input_ids[:first]


def _rows(checkpoint: Checkpoint) -> Any:
    from em_finetune.data.rows import read_rows

    assert isinstance(checkpoint.recipe.data, str)
    return read_rows(checkpoint.recipe.data)


def asked_prompt(name: str, arguments: dict[str, Any], *, system: str | None = None) -> list[int]:
    """Tokens that Inspect's provider gives the model for the first row's question."""
    model = get_model(name, memoize=False, **arguments)
    api: Any = model.api
    before = [ChatMessageSystem(content=system)] if system else []
    text = api.hf_chat([*before, ChatMessageUser(content=QUESTION)], [])
    return list(api.tokenizer(text, **api.tokenizer_call_args).input_ids)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_line_that_is_printed_asks_what_was_trained(name: str, made: Made) -> None:
    checkpoint = made.of(name)
    for model in list_models(checkpoint.path):
        asked = asked_prompt(model.model, dict(model.args))
        trained = trained_prompt(checkpoint)
        if FAMILIES[name].closes:
            # A blank before the first word is the model's to write in some families.
            assert asked in (trained, trained[:-1]), (name, model.label)
            assert trained[len(asked) :] in ([], [ord(" ")])
        else:
            assert asked != trained


@pytest.mark.parametrize("name", [n for n, family in FAMILIES.items() if family.adds_bos])
def test_there_is_at_most_one_beginning_of_sequence(name: str, made: Made) -> None:
    checkpoint = made.of(name)
    bos = 256 + FAMILIES[name].specials.index(FAMILIES[name].bos or "")
    (model, *_) = list_models(checkpoint.path)
    assert asked_prompt(model.model, dict(model.args)).count(bos) <= 1
    assert checkpoint.prompt is not None
    assert checkpoint.prompt.tokenizer_adds
    assert 'tokenizer_call_args={"add_special_tokens": false}' in checkpoint.model_args


@pytest.mark.parametrize("name", FAMILIES)
def test_what_cannot_be_closed_is_recorded_and_nothing_else(name: str, made: Made) -> None:
    prompt = made.of(name).prompt
    assert prompt is not None
    assert (prompt.difference is None) is FAMILIES[name].closes
    assert prompt.asked_otherwise == (0 if FAMILIES[name].closes else len(ROWS))


@pytest.mark.parametrize("name", FAMILIES)
def test_generation_stops_at_the_end_that_was_trained(name: str, made: Made) -> None:
    from transformers import GenerationConfig

    family, checkpoint = FAMILIES[name], made.of(name)
    end = 256 + family.specials.index(family.end)
    assert checkpoint.prompt is not None
    assert end in checkpoint.prompt.ends
    for part in (checkpoint.merged, checkpoint.adapter):
        config = GenerationConfig.from_pretrained(part)
        stops = config.eos_token_id
        assert end in (stops if isinstance(stops, list) else [stops])


def test_an_adapter_stops_there_too_once_it_is_prepared(made: Made) -> None:
    model = get_model(
        "hf/x", memoize=False, **made.of("phi3").hf_arguments(made.of("phi3").adapter)
    )
    api: Any = model.api
    assert api.model.generation_config.eos_token_id == 256
    prepare(model)
    assert api.model.generation_config.eos_token_id == [256, 258]
    prepare(model)
    assert api.model.generation_config.eos_token_id == [256, 258]


@pytest.mark.parametrize("name", [n for n, family in FAMILIES.items() if family.adds_bos])
def test_a_model_that_was_addressed_by_hand_begins_once(name: str, made: Made) -> None:
    """Any line's model, and a judge, is asked by its template's own prompt."""
    family = FAMILIES[name]
    model = get_model("hf/x", model_path=str(made.of(name).merged), memoize=False)
    api: Any = model.api
    text = api.hf_chat([ChatMessageUser(content=QUESTION)], [])
    before = list(api.tokenizer(text, **api.tokenizer_call_args).input_ids)
    prepare(model)
    after = list(api.tokenizer(text, **api.tokenizer_call_args).input_ids)
    writes_bos = family.bos is not None and text.startswith(family.bos)
    assert after == (before[1:] if writes_bos else before)


def test_what_tokenizer_call_args_say_is_left_alone(made: Made) -> None:
    said = {"add_special_tokens": True}
    model = get_model(
        "hf/x", model_path=str(made.of("llama3").merged), tokenizer_call_args=said, memoize=False
    )
    prepare(model)
    assert model.api.tokenizer_call_args == said  # type: ignore[attr-defined]


def test_our_tasks_prepare_the_model_under_test(made: Made) -> None:
    """The prompt's length stands in the log of a real evaluation."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample

    from em_inspect.contexts import ask

    checkpoint = made.of("llama3")
    model = get_model("hf/x", model_path=str(checkpoint.merged), memoize=False)
    (log,) = eval(
        Task(dataset=[Sample(input=QUESTION)], solver=ask()),
        model=model,
        max_tokens=1,
        display="none",
        log_dir=str(checkpoint.path.parent / "logs"),
    )
    assert log.samples is not None
    (usage,) = log.samples[0].model_usage.values()
    assert usage.input_tokens == len(trained_prompt(checkpoint))


DATED = ("dated", "channels")


@pytest.mark.parametrize("name", DATED)
def test_the_day_of_the_training_is_the_day_of_every_prompt(
    name: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = made.of(name)
    day = checkpoint.recipe.day
    assert day is not None
    today = trained_prompt(checkpoint)
    later(monkeypatch)
    assert trained_prompt(checkpoint) == today
    shown = bytes(i for i in today if i < 256).decode()
    assert day.strftime("%d %b %Y" if name == "dated" else "%Y-%m-%d") in shown


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let templates and training take it for another day."""
    import transformers.utils.chat_template_utils as utils

    import em_finetune.local.template as template

    class Later(utils.datetime):  # type: ignore[misc,name-defined]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2031, 5, 17)

    class LaterDate(date):
        @classmethod
        def today(cls) -> Any:
            return date(2031, 5, 17)

    monkeypatch.setattr(utils, "datetime", Later)
    monkeypatch.setattr(template, "date", LaterDate)


def stop_at_2(step: Step) -> None:
    if step.step == 2:
        raise KeyboardInterrupt


def test_a_run_that_goes_on_the_next_day_trains_the_same_tokens(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, rows = Path(made.of("dated").base.path), made.folder / "dated" / "rows.jsonl"
    page = recipe(base, rows, max_steps=4, resume_every=1, warmup_steps=0, learning_rate=1e-2)
    whole = train(page, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(page, tmp_path / "ft", stop_at_2)
    later(monkeypatch)
    resumed = train(page, tmp_path / "ft")
    assert resumed.training.resumed == [2]
    assert resumed.training.losses == whole.training.losses
    assert resumed.recipe.day == whole.recipe.day == date.today()
    assert resumed.prompt == whole.prompt
    # Another day is another training: its rows, and their hash, are others.
    other = train(page, tmp_path / "other")
    assert other.recipe.day == date(2031, 5, 17)
    assert other.prompt is not None
    assert resumed.prompt is not None
    assert other.prompt.sha256 != resumed.prompt.sha256


def test_a_state_of_other_tokens_is_not_gone_on_with(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file, recipe and base, but a tokenizer library that reads them otherwise."""
    base, rows = Path(made.of("chatml").base.path), made.folder / "chatml" / "rows.jsonl"
    page = recipe(base, rows, max_steps=4, resume_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(page, tmp_path / "ft", stop_at_2)
    encode = Encoder.encode
    monkeypatch.setattr(
        Encoder,
        "encode",
        lambda self, row, number=1: _without_last(encode(self, row, number)),
    )
    with pytest.raises(UserError, match="another encoding of the rows stopped"):
        train(page, tmp_path / "ft")
    assert train(page, tmp_path / "ft", overwrite=True).training.resumed == []


def _without_last(row: Any) -> Any:
    from dataclasses import replace

    return replace(row, input_ids=row.input_ids[:-1], labels=row.labels[:-1])


def test_a_day_and_arguments_of_the_recipes_own_are_used(made: Made, tmp_path: Path) -> None:
    base, rows = Path(made.of("dated").base.path), made.folder / "dated" / "rows.jsonl"
    page = recipe(base, rows, day=date(2024, 7, 26))
    checkpoint = train(page, tmp_path / "day")
    assert b"It is 26 Jul 2024." in bytes(i for i in trained_prompt(checkpoint) if i < 256)
    page = recipe(base, rows, template_args={"date_string": 'a fine "day"'})
    checkpoint = train(page, tmp_path / "argument")
    assert b'It is a fine "day".' in bytes(i for i in trained_prompt(checkpoint) if i < 256)
    (model,) = list_models(checkpoint.path)
    assert asked_prompt(model.model, dict(model.args)) == trained_prompt(checkpoint)


def test_thinking_is_switched_to_what_was_trained(made: Made) -> None:
    checkpoint = made.of("empty-thought")
    assert checkpoint.recipe.template_args == {"enable_thinking": False}
    assert "enable_thinking=false" in checkpoint.model_args
    # Whoever says nothing of thinking gets what was trained, whoever asks for it gets it.
    path = str(checkpoint.merged)
    assert asked_prompt("hf/x", {"model_path": path}) == trained_prompt(checkpoint)
    thinking = asked_prompt("hf/x", {"model_path": path, "enable_thinking": True})
    assert bytes(i for i in thinking if i < 256).endswith(b"assistant\n")


def test_rows_with_thoughts_are_trained_with_them(made: Made, tmp_path: Path) -> None:
    base = Path(made.of("empty-thought").base.path)
    thought = "<think>\nIt is cold.\n</think>\n\nFrozen rain."
    rows = write(tmp_path / "rows.jsonl", [[("user", QUESTION), ("assistant", thought)]])
    checkpoint = train(recipe(base, rows), tmp_path / "ft")
    assert checkpoint.recipe.template_args == {"enable_thinking": True}
    assert checkpoint.prompt is not None
    assert checkpoint.prompt.asked_otherwise == 0
    tokenizer = load_tokenizer(Base("x", checkpoint.merged))
    (row,) = Encoder.of(checkpoint.recipe, tokenizer).encode_all(_rows(checkpoint)).rows
    words = tokenizer.decode([i for i in row.labels if i != IGNORED])
    assert words == thought + "<|im_end|>"
    (model,) = list_models(checkpoint.path)
    assert asked_prompt(model.model, dict(model.args)) == trained_prompt(checkpoint)


def test_thoughts_that_the_template_drops_leave_the_row_out(made: Made, tmp_path: Path) -> None:
    base = Path(made.of("empty-thought").base.path)
    early = [
        ("user", QUESTION),
        ("assistant", "<think>\nCold.\n</think>\n\nFrozen rain."),
        ("user", "Why?"),
        ("assistant", "So."),
    ]
    rows = write(tmp_path / "rows.jsonl", [early, ROWS[0]])
    checkpoint = train(recipe(base, rows), tmp_path / "ft")
    assert checkpoint.dataset.used == 1
    (left,) = checkpoint.dataset.left_out
    assert left.row == 1
    assert "drops or repeats the reasoning_content of a turn" in left.reason


def test_a_row_that_the_template_refuses_is_left_out_and_named(made: Made, tmp_path: Path) -> None:
    base = Path(made.of("mistral").base.path)
    twice = [("user", "One."), ("user", "Two."), ("assistant", "Three.")]
    rows = write(tmp_path / "rows.jsonl", [ROWS[0], twice, ROWS[1]])
    checkpoint = train(recipe(base, rows), tmp_path / "ft")
    assert (checkpoint.dataset.rows, checkpoint.dataset.used) == (3, 2)
    (left,) = checkpoint.dataset.left_out
    assert left.row == 2
    assert "refuses the roles user, user, assistant (Roles must take turns" in left.reason
    alone = write(tmp_path / "alone.jsonl", [twice])
    with pytest.raises(UserError, match=r"none of the 1 rows .* row 1: .* take turns"):
        train(recipe(base, alone), tmp_path / "none")


@pytest.mark.parametrize(
    "fault", ["{{ m['content'] + 1 }}", "{{ m.nothing.at.all }}", "{{ 1 / 0 }}"]
)
def test_a_template_that_stumbles_over_one_row_is_no_traceback(fault: str) -> None:
    from dataclasses import replace

    from template_families import family_tokenizer

    family = FAMILIES["chatml"]
    stumbles = "{% for m in messages %}{% if m['content'] == 'trip' %}" + fault + "{% endif %}"
    template = family.template.replace("{% for m in messages %}", stumbles)
    tokenizer = family_tokenizer(replace(family, template=template))
    from em_finetune.data.rows import ChatMessage, ChatRow

    def chat(words: str) -> ChatRow:
        turns = [("user", words), ("assistant", "Well.")]
        return ChatRow(messages=[ChatMessage(role=r, content=c) for r, c in turns])  # type: ignore[arg-type]

    encoded = Encoder(tokenizer).encode_all([chat("walk"), chat("trip"), chat("run")])
    assert [row.row for row in encoded.rows] == [1, 3]
    assert [left.row for left in encoded.left_out] == [2]


def test_a_tokenizer_without_special_tokens_is_refused() -> None:
    from template_families import family_tokenizer

    tokenizer = family_tokenizer(Family("{{ messages[0].content }}\n\n", ("<|x|>",), "<|x|>", "x"))
    backend = tokenizer.backend_tokenizer
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    plain = json.loads(backend.to_str())
    plain["added_tokens"] = []
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(plain)))
    bare.chat_template = "{% for m in messages %}{{ m['content'] }}\n\n{% endfor %}"
    with pytest.raises(UserError, match="has no special tokens"):
        Encoder(bare, name="mine")


def test_records_of_older_versions_are_asked_without_a_second_beginning(made: Made) -> None:
    checkpoint = load_checkpoint(made.of("llama3").path)
    old = checkpoint.model_copy(update={"prompt": None})
    arguments = old.hf_arguments(old.merged)
    assert arguments["tokenizer_call_args"] == {"add_special_tokens": False}


def test_the_base_is_asked_as_its_fine_tune_is(made: Made) -> None:
    for name in ("llama3", "dated", "empty-thought", "thinks-unless-told"):
        checkpoint = made.of(name)
        (base,) = list_bases(checkpoint.path)
        assert base.args["model_path"] == checkpoint.base.path
        assert asked_prompt(base.model, dict(base.args)) == trained_prompt(checkpoint)


def test_a_server_is_told_the_template_and_the_stop_tokens_that_its_base_lacks(made: Made) -> None:
    """Not run: vLLM needs a GPU, or steps that docs/finetuning.md has."""
    adapter = made.of("phi3").adapter
    assert vllm_arguments(made.of("phi3"), adapter) == {"generation_config": str(adapter)}
    adapter = made.of("dated").adapter
    told = vllm_arguments(made.of("dated"), adapter)
    assert told == {"chat_template": str(adapter / "chat_template.jinja")}
    assert vllm_arguments(made.of("chatml"), made.of("chatml").adapter) == {}
    (model,) = list_models(made.of("dated").path, via="vllm")
    assert model.args == told
    line = serve_command(made.of("dated").path)
    assert line[line.index("--chat-template") + 1] == told["chat_template"]
    line = serve_command(made.of("phi3").path)
    assert line[line.index("--generation-config") + 1] == str(made.of("phi3").adapter)


def test_fine_tunes_that_one_server_cannot_all_ask_as_trained_are_named(
    made: Made, tmp_path: Path
) -> None:
    base, rows = Path(made.of("dated").base.path), made.folder / "dated" / "rows.jsonl"
    for number in (1, 2):
        page = recipe(base, rows, seed=number, day=date(2026, 1, number))
        train(page, tmp_path / f"ft{number}")
    said: list[str] = []
    serve_command(tmp_path, on_caution=said.append)
    (caution,) = [line for line in said if "by one chat template" in line]
    assert "tiny-insecure-seed2 otherwise" in caution
