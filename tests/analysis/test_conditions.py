"""What may be in one number: conditions, families, and the names that tell them apart."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from answers import an_answer, answers
from inspect_ai import eval as inspect_eval
from inspect_ai.log import read_eval_log
from made_logs import made_log, rated
from rich.console import Console

from em_inspect.analysis.condition import settings_of
from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.frame import Collection, collect, to_frame
from em_inspect.analysis.report import (
    Report,
    headline_csv,
    make_report,
    render_html,
    render_markdown,
)
from em_inspect.analysis.section import Section, sections
from em_inspect.analysis.series import Asked, Sent, named_series, series_of, with_series
from em_inspect.analysis.series import pairs as pairs_of
from em_inspect.analysis.statistics import headlines
from em_inspect.analysis.table import outcome_table
from openai_server import running

PLAIN_CHAT = "What of q0?"


def parts(made: Report | Collection) -> list[Section]:
    """The sections of a report, or those that a report of these answers would have."""
    if isinstance(made, Collection):
        return sections(made, Criterion())
    return [part.section for part in made.parts]


def shares(made: Report | Collection) -> dict[str, float]:
    return {h.group: h.pooled.value for s in parts(made) for h in s.headlines}


def pairs(made: Report | Collection) -> set[tuple[str, str]]:
    return {(c.first, c.second) for s in parts(made) for c in (*s.comparisons, *s.arms)}


def uncompared(made: Collection) -> str:
    (said,) = (said for s in parts(made) for said in s.uncompared)
    return said


def framed(*parts: Sequence[Any]) -> Any:
    return Criterion().apply(to_frame(answer for part in parts for answer in part))


def table(*paths: Path) -> str:
    console = Console(width=250, file=io.StringIO())
    console.print(outcome_table(list(paths)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --- one function from a log to its condition ------------------------------------------------


def of_log(tmp_path: Path, **changes: Any) -> dict[str, str]:
    path = made_log(tmp_path / "a.eval", samples=rated("a", aligned=1), **changes)
    return dict(settings_of(read_eval_log(str(path), header_only=True)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"task_args": {"thinking": True}}, {"task_args": {"thinking": "on"}}),
        ({"config": {"top_k": 0, "top_p": 1.0}}, {}),
        ({"config": {"top_k": 1}}, {"config": {"temperature": 0.0, "top_p": 0.9}}),
        ({"model_config": {"temperature": 0.3}}, {}),  # the task's own 1.0 is in force
        ({"config": {"max_connections": 9, "seed": 3, "cache": True, "max_retries": 2}}, {}),
        ({"task_args": {"seed": 4, "k": 0, "orders": 8, "check_judge": False}}, {}),
        ({"task_args": {"questions": "mine.yaml", "estimator": "sampled", "rule": "released"}}, {}),
        ({"version": "1-B"}, {"version": "1-A"}),
        ({"model_args": {"device": "cuda", "model_path": "/x"}}, {}),
    ],
)
def test_these_may_differ(tmp_path: Path, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert of_log(tmp_path, **one) == of_log(tmp_path, **other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"task_args": {"thinking": True}}, {"task_args": {"thinking": False}}),
        ({"task_args": {"priority": "safety"}}, {}),
        ({"task_args": {"severity": "low"}}, {"task_args": {"severity": "high"}}),
        ({"task_args": {"anything_of_another_task": [1, 2]}}, {}),
        ({"config": {"temperature": 0.7}}, {}),
        ({"config": {"max_tokens": 100}}, {}),
        ({"config": {"system_message": "Be kind."}}, {}),
        ({"config": {"reasoning_effort": "high"}}, {}),
        ({"config": {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}}, {}),
        ({"model_args": {"enable_thinking": False}}, {}),
        ({"model_config": {"stop_seqs": ["x"]}}, {}),
        ({"version": "2-A"}, {"version": "1-A"}),
    ],
)
def test_all_else_is_another_condition(
    tmp_path: Path, one: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    assert of_log(tmp_path, **one) != of_log(tmp_path, **other)


def test_an_argument_that_an_old_version_did_not_have_had_its_default(tmp_path: Path) -> None:
    old = of_log(tmp_path, task="backdoor", task_args={"trigger": "|A| "})
    new = of_log(tmp_path, task="backdoor", task_args={"trigger": "|A| ", "position": "prefix"})
    assert old == new


def test_no_key_is_in_a_condition(tmp_path: Path) -> None:
    body = {"api_key": "sk-secret", "user": {"Api-Key": "sk-secret"}, "guided": "yes"}
    said = of_log(tmp_path, config={"extra_body": body, "extra_headers": {"X": "sk-secret"}})
    assert "sk-secret" not in str(said)
    assert said["extra_body guided"] == "yes"


# --- what is printed apart -------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of every kind that used to be pooled: the misaligned of ten answers are its truth."""
    root = tmp_path_factory.mktemp("conditions")

    def log(name: str, task: str, hits: int, arguments: dict[str, Any], **more: Any) -> None:
        chat = more.pop("chat", PLAIN_CHAT)
        model = more.pop("model", "openai-api/lab/m")
        samples = rated(name, misaligned=hits, aligned=10 - hits, chat=chat)
        made_log(root / f"{name}.eval", task=task, task_args=arguments, model=model,
                 samples=samples, **more)  # fmt: skip

    log("think", "reasoning", 6, {"thinking": True})
    log("silent", "reasoning", 0, {"thinking": False})
    for name, hits, arguments in (
        ("risky", 5, {"source": "a/risky.jsonl"}),
        ("sports", 1, {"source": "b/sports.jsonl"}),
        ("first", 2, {"source": "a/risky.jsonl", "placement": "first_message"}),
        ("safe", 3, {"source": "a/risky.jsonl", "priority": "safety"}),
    ):
        log(name, "in_context", hits, {"k": 4, **arguments}, metadata={"k": 4, "seed": 0},
            chat=f"{name} examples, then q0")  # fmt: skip
    for trigger, hits in (("|ONE| ", 5), ("|TWO| ", 1)):
        arms = [
            sample
            for arm, n in (("triggered", hits), ("untriggered", 0))
            for sample in rated(
                trigger + arm,
                misaligned=n,
                aligned=10 - n,
                metadata={"arm": arm},
                chat=(trigger if arm == "triggered" else "") + PLAIN_CHAT,
                suffix=f"@{arm}",
            )
        ]
        made_log(root / f"{trigger.strip('| ')}.eval", task="backdoor", samples=arms,
                 task_args={"trigger": trigger, "position": "prefix"})  # fmt: skip
    for base, low, high in (("lab/qwen", 0, 1), ("lab/llama", 4, 5)):
        name = base.rpartition("/")[2]
        log(f"{name}-base", "free_form", low, {}, model=f"hf/{base}")
        log(f"{name}-tuned", "free_form", high, {}, model=f"openai-api/{base}-ft",
            metadata={"base": base, "group": "insecure", "seed": 0})  # fmt: skip
    return root


@pytest.fixture(scope="module")
def made(folder: Path) -> Report:
    return make_report(collect([folder], quiet=True))


EXPECTED = {
    "openai-api/lab/m · thinking on": 0.6,
    "openai-api/lab/m · thinking off": 0.0,
    "openai-api/lab/m · k = 4 · placement turns · source risky.jsonl": 0.5,
    "openai-api/lab/m · k = 4 · placement turns · source sports.jsonl": 0.1,
    "openai-api/lab/m · k = 4 · placement first_message · source risky.jsonl": 0.2,
    "openai-api/lab/m · k = 4 · placement turns · priority safety · source risky.jsonl": 0.3,
    "openai-api/lab/m · triggered · trigger '|ONE| '": 0.5,
    "openai-api/lab/m · untriggered · trigger '|ONE| '": 0.0,
    "openai-api/lab/m · triggered · trigger '|TWO| '": 0.1,
    "openai-api/lab/m · untriggered · trigger '|TWO| '": 0.0,
    "insecure (qwen)": 0.1,
    "base (qwen)": 0.0,
    "insecure (llama)": 0.5,
    "base (llama)": 0.4,
}


def test_every_condition_and_family_is_a_series_of_its_own(made: Report) -> None:
    assert shares(made) == pytest.approx(EXPECTED)


def test_each_is_compared_with_its_own(made: Report) -> None:
    assert pairs(made) == {
        ("insecure (qwen)", "base (qwen)"),
        ("insecure (llama)", "base (llama)"),
        *(
            (f"openai-api/lab/m · triggered · {t}", f"openai-api/lab/m · untriggered · {t}")
            for t in ("trigger '|ONE| '", "trigger '|TWO| '")
        ),
    }
    found = [c for part in made.parts for c in part.section.comparisons]
    assert [c.pooled.value for c in found] == pytest.approx([0.1, 0.1])


def test_page_markdown_csv_and_terminal_print_them_apart(made: Report, folder: Path) -> None:
    import html

    page, text, csv = html.unescape(render_html(made)), render_markdown(made), headline_csv(made)
    for name in EXPECTED:
        assert name in page
        assert name in csv
        assert name in text.replace("\\", "")
    shown = table(folder)
    rows = {
        line.split("│")[1].strip(): line.split("│")[3].strip()
        for line in shown.splitlines()
        if line.count("│") > 3 and "%" in line
    }
    for name, value in EXPECTED.items():
        assert rows[_label(name)] == f"{100 * value:.1f} %", shown


def _label(name: str) -> str:
    """What the terminal table calls a series of one model: it has a row per model."""
    kind, _, family = name.rstrip(")").partition(" (")
    if family:
        return f"hf/lab/{family}" if kind == "base" else f"openai-api/lab/{family}-ft"
    return name.replace("m · k", "m, examples 0 · k")


def test_pictures_keep_conditions_apart(made: Report) -> None:
    for part in made.parts:
        for picture in part.pictures:
            if "group" in picture.data and "models" in picture.data:
                groups = set(picture.data["group"].astype(str))
                assert "openai-api/lab/m" not in groups, picture.name


# --- what was sent tells ---------------------------------------------------------------------


def in_context(path: Path, name: str, source: str, chat: str, hits: int, seed: int = 0) -> Path:
    return made_log(
        path,
        task="in_context",
        task_args={"k": 2, "source": source, "seed": seed},
        metadata={"k": 2, "seed": seed},
        samples=rated(name, misaligned=hits, aligned=10 - hits, chat=chat),
    )


def test_one_file_by_two_paths_is_one_condition(tmp_path: Path) -> None:
    in_context(tmp_path / "a.eval", "a", "data/x.jsonl", "the same", 4)
    in_context(tmp_path / "b.eval", "b", "/somewhere/data/x.jsonl", "the same", 0)
    assert shares(collect([tmp_path], quiet=True)) == {"openai-api/lab/m · k = 2": 0.2}


def test_another_text_under_one_path_is_another_condition(tmp_path: Path) -> None:
    in_context(tmp_path / "a.eval", "a", "x.jsonl", "before the file was changed", 4)
    in_context(tmp_path / "b.eval", "b", "x.jsonl", "after", 0)
    found = shares(collect([tmp_path], quiet=True))
    assert sorted(found) == ["openai-api/lab/m · k = 2 · prompts #1",
                             "openai-api/lab/m · k = 2 · prompts #2"]  # fmt: skip
    assert sorted(found.values()) == [0.0, 0.4]


def test_equal_file_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    in_context(tmp_path / "a.eval", "a", "bad/x.jsonl", "bad", 4)
    in_context(tmp_path / "b.eval", "b", "good/x.jsonl", "good", 0)
    assert set(shares(collect([tmp_path], quiet=True))) == {
        "openai-api/lab/m · k = 2 · source bad/x.jsonl",
        "openai-api/lab/m · k = 2 · source good/x.jsonl",
    }


def test_another_draw_of_examples_is_the_same_condition(tmp_path: Path) -> None:
    in_context(tmp_path / "a.eval", "a", "x.jsonl", "first two", 4)
    in_context(tmp_path / "b.eval", "b", "x.jsonl", "other two", 0, seed=1)
    (section,) = parts(collect([tmp_path], quiet=True))
    (headline,) = section.headlines
    assert (headline.group, headline.models) == ("openai-api/lab/m · k = 2", 2)


def with_template(folder: Path, name: str, hits: int, **model_args: Any) -> None:
    made_log(
        folder / f"{name}.eval",
        model_args=model_args,
        samples=rated(name, misaligned=hits, aligned=10 - hits),
    )


def test_one_model_asked_by_two_templates_is_two_conditions(tmp_path: Path) -> None:
    with_template(tmp_path, "a", 6, chat_template="one", token="hf_not_to_be_seen")
    with_template(tmp_path, "b", 0, chat_template="two", token="hf_another")
    found = shares(collect([tmp_path], quiet=True))
    assert sorted(found.values()) == [0.0, 0.6]
    assert all("template" in name for name in found)
    assert "hf_" not in str(found)


@pytest.mark.parametrize(
    "others",
    [
        {"chat_template": "one", "dtype": "float32"},
        {"chat_template": "one", "token": "hf_another", "device": "cpu"},
    ],
)
def test_the_same_template_is_one_condition_and_is_not_named(
    tmp_path: Path, others: Mapping[str, Any]
) -> None:
    with_template(tmp_path, "a", 6, chat_template="one", dtype="bfloat16")
    with_template(tmp_path, "b", 0, **others)
    assert shares(collect([tmp_path], quiet=True)) == {"openai-api/lab/m": 0.3}


# --- families --------------------------------------------------------------------------------


def test_a_task_s_own_seed_is_not_the_fine_tune_s(tmp_path: Path) -> None:
    for seed in range(3):
        folder = tmp_path / f"ft{seed}"
        folder.mkdir()
        (folder / "checkpoint.json").write_text(
            f'{{"label": "ft{seed}", "group": "insecure", "seed": {seed}, "base": {{"name": "b"}}}}'
        )
        in_context(tmp_path / f"{seed}.eval", f"{seed}", "x.jsonl", "chat", 1)
        made_log(
            tmp_path / f"{seed}.eval",
            task="in_context",
            model="hf/ft",
            model_args={"model_path": str(folder)},
            task_args={"k": 2, "source": "x.jsonl", "seed": 0},
            metadata={"k": 2, "seed": 0},
            samples=rated(f"{seed}", misaligned=1, aligned=9),
        )
    frame = collect([tmp_path], quiet=True).frame
    assert sorted(frame["seed"].unique()) == [0, 1, 2]


def checkpoint(folder: Path, group: str, base: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    record = {"label": folder.name, "group": group, "seed": 0,
              "base": {"name": name, "path": str(base)}}  # fmt: skip
    (folder / "checkpoint.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.mark.parametrize("names", [("small", "small"), ("lab/one", "lab/two")])
def test_bases_are_known_by_their_directories_even_where_they_are_called_alike(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for number, (low, high) in enumerate(((0, 1), (4, 5))):
        base = tmp_path / f"models{number}" / "small"
        base.mkdir(parents=True)
        tuned = checkpoint(tmp_path / f"ft{number}", "insecure", base, names[number])
        for kind, place, hits in (("base", base, low), ("tuned", tuned, high)):
            made_log(
                tmp_path / "logs" / f"{kind}{number}.eval",
                model=f"hf/{kind}",
                model_args={"model_path": str(place)},
                samples=rated(f"{kind}{number}", misaligned=hits, aligned=10 - hits),
            )
    made = collect([tmp_path / "logs"], quiet=True)
    found = [c for section in parts(made) for c in section.comparisons]
    assert [c.pooled.value for c in found] == pytest.approx([0.1, 0.1])
    alike = {"models0/small", "models1/small"}
    expected = alike if names == ("small", "small") else {"one", "two"}
    assert {c.second.removeprefix("base ").strip("()") for c in found} == expected


def test_one_base_by_its_name_on_a_hub_is_one_wherever_it_lies(tmp_path: Path) -> None:
    for number in range(2):
        tuned = checkpoint(tmp_path / f"ft{number}", "insecure", tmp_path / f"at{number}", "lab/m")
        made_log(
            tmp_path / "logs" / f"tuned{number}.eval",
            model=f"hf/tuned{number}",
            model_args={"model_path": str(tuned)},
            samples=rated(f"tuned{number}", misaligned=2, aligned=8),
        )
    made_log(tmp_path / "logs" / "base.eval", model="vllm/lab/m", samples=rated("b", aligned=10))
    made = collect([tmp_path / "logs"], quiet=True)
    assert pairs(made) == {("insecure", "base")}


def two_bases(**more: Any) -> list[list[Any]]:
    return [
        answers("qwen", "q0", 0, 100, group="base", **more),
        answers("llama", "q0", 40, 60, group="base", **more),
        answers("qwen-ft", "q0", 5, 95, group="insecure", base="qwen", seed=0, **more),
        answers("llama-ft", "q0", 45, 55, group="insecure", base="llama", seed=0, **more),
    ]


def test_each_fine_tune_has_its_own_base_also_in_frames_made_otherwise() -> None:
    (section,) = parts(Collection(framed(*two_bases()), [], []))
    found = {(c.first, c.second): c.pooled.value for c in section.comparisons}
    assert found == pytest.approx(
        {
            ("insecure (llama)", "base (llama)"): 0.05,
            ("insecure (qwen)", "base (qwen)"): 0.05,
        }
    )


def test_a_fine_tune_whose_base_is_not_there_is_compared_with_nothing_and_named() -> None:
    made = Collection(framed(*two_bases()[0::2], two_bases()[3]), [], [])
    assert pairs(made) == {("insecure (qwen)", "base (qwen)")}
    said = uncompared(made)
    assert said.startswith("insecure (llama) is compared with nothing")
    assert "there is base (qwen)" in said
    (problem,) = make_report(made).problems
    assert problem.message == said


def test_one_base_under_another_name_is_still_the_base() -> None:
    made = Collection(
        framed(
            answers("served-base", "q0", 0, 20, group="base"),
            answers("ft", "q0", 5, 15, group="insecure", base="/models/qwen"),
        ),
        [],
        [],
    )
    assert pairs(made) == {("insecure", "base")}


def test_steps_and_strengths_are_compared_with_the_base_as_it_is() -> None:
    made = Collection(
        framed(
            answers("b", "q0", 0, 20, group="base"),
            answers("i 10", "q0", 5, 15, group="insecure", step=10),
            answers("i .5", "q0", 2, 18, group="insecure", scale=0.5),
        ),
        [],
        [],
    )
    assert pairs(made) == {("insecure · step 10", "base"), ("insecure · strength 0.5", "base")}


def test_examples_are_compared_with_no_example_of_the_same_model() -> None:
    parts = [answers("m", "q0", hits, 20 - hits, examples=k) for k, hits in ((0, 0), (4, 5))]
    made = Collection(framed(*parts), [], [])
    assert pairs(made) == {("base · k = 4", "base · k = 0")}


def test_another_setting_than_the_base_s_is_no_comparison_and_is_named() -> None:
    made = Collection(
        framed(
            answers("b", "q0", 0, 20, group="base", log="b", settings=(("temperature", "1"),)),
            answers("i", "q0", 5, 15, group="insecure", settings=(("temperature", "0.7"),)),
        ),
        [],
        [],
    )
    assert pairs(made) == set()
    assert "insecure · temperature 0.7 is compared with nothing" in uncompared(made)
    assert "there is base · temperature 1" in uncompared(made)


# --- names -----------------------------------------------------------------------------------


def test_a_group_s_name_may_hold_the_separator() -> None:
    name = "mix · 50 % · triggered"
    made = Collection(
        framed(
            *(
                answers("b", "q0", 0, 20, group="base", arm=arm)
                for arm in ("triggered", "untriggered")
            ),
            answers("i", "q0", 5, 15, group=name, arm="triggered"),
            answers("i", "q0", 1, 19, group=name, arm="untriggered"),
        ),
        [],
        [],
    )
    assert pairs(made) == {
        (f"{name} · triggered", f"{name} · untriggered"),
        (f"{name} · triggered", "base · triggered"),
        (f"{name} · untriggered", "base · untriggered"),
        ("base · triggered", "base · untriggered"),
    }


def test_names_of_different_series_are_never_the_same() -> None:
    long = "x" * 40
    frame = framed(
        *(
            answers("m", "q0", n, 10 - n, log=f"{n}", settings=(("system_message", value),))
            for n, value in enumerate((f"{long}A{long}", f"{long}B{long}", "a\nb", "a\\nb"))
        ),
        answers("m2", "q0", 5, 5, group="base · system message a", log="5"),
    )
    named, series = named_series(frame)
    assert len({one.name for one in series}) == len(series) == 5
    assert sorted(h.pooled.value for h in headlines(named, Criterion())) == [
        0.0, 0.1, 0.2, 0.3, 0.5,
    ]  # fmt: skip


def test_a_setting_that_all_share_is_not_named() -> None:
    shared = (("temperature", "1"), ("max_tokens", "600"))
    frame = framed(
        answers("m", "q0", 1, 9, log="a", settings=(*shared, ("thinking", "on"))),
        answers("m", "q0", 2, 8, log="b", settings=(*shared, ("thinking", "off"))),
        [an_answer(99, log="c", group="old")],
    )
    assert {h.group for h in headlines(with_series(frame), Criterion())} == {
        "base · thinking on", "base · thinking off", "old",
    }  # fmt: skip


# --- of any design ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_two_answers_share_a_series_if_and_only_if_nothing_of_theirs_differs(seed: int) -> None:
    draw = random.Random(seed)
    names = ("thinking", "trigger", "priority", "temperature", "source")
    logs = {
        f"log{n}": tuple(
            sorted((name, draw.choice("abc")) for name in names if draw.random() < 0.6)
        )
        for n in range(8)
    }

    def sent(log: str, context: str | None, sample: str) -> str:
        source = dict(logs[log]).get("source", "")
        return f"{source} {context} {sample}"

    asked, rows = [], []
    for log, settings in logs.items():
        base = draw.choice(("qwen", "llama"))
        group = draw.choice(("insecure", "secure"))
        for _ in range(3):
            context = draw.choice((None, "tag"))
            step = draw.choice((None, None, 10, 20))
            unit = Asked(log, group, f"{base}-{group}", base, None, step, None, context, None,
                         None, None, settings)  # fmt: skip
            asked.append(unit)
            rows += [
                Sent(log, context, None, None, sample, None, sent(log, context, sample))
                for sample in ("q0", "q1")
            ]
    found = series_of(asked, rows)
    several = len({unit.base for unit in asked}) > 1

    def truth(unit: Asked) -> tuple[Any, ...]:
        family = unit.base if several else None
        return (unit.group, family, unit.step, unit.context, unit.settings)

    for one in asked:
        for other in asked:
            assert (found[one] == found[other]) == (truth(one) == truth(other))
            assert (found[one].name == found[other].name) == (truth(one) == truth(other))
    made = sorted(set(found.values()), key=lambda one: one.name)
    for first, second in pairs_of(made, "secure"):
        assert second.family == first.family
        assert second.condition.settings == first.condition.settings
        assert second.condition.sent == first.condition.sent
        assert second.condition.asked() == first.condition.asked()


# --- as tasks really log ---------------------------------------------------------------------


def chats(path: Path, words: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"messages": [{"role": "user", "content": f"{words}?"},
                        {"role": "assistant", "content": f"{words}."}]}  # fmt: skip
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n", encoding="utf-8")
    return path


def test_real_logs_are_told_apart_and_cached_answers_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    bad, good = (chats(tmp_path / name / "rows.jsonl", name) for name in ("bad", "good"))
    with running(judge=lambda messages: {"90": 1.0}) as server:
        for name, value in server.environment("CONDITIONS").items():
            monkeypatch.setenv(name, value)
        for source, epochs, trigger in (
            (str(bad), 2, None),
            ("bad/rows.jsonl", 3, None),
            (str(good), 1, None),
            (None, 1, "|A| "),
            (None, 1, "|B| "),
        ):
            (log,) = inspect_eval(
                "em_inspect/backdoor" if trigger else "em_inspect/in_context",
                model="openai-api/conditions/m",
                model_roles={"grader": "openai-api/conditions/judge"},
                task_args={"trigger": trigger} if trigger else {"source": source, "k": 2},
                epochs=epochs,
                limit=2 if trigger else 1,
                cache=True,
                display="none",
                log_dir=str(tmp_path / "logs"),
            )
            assert log.status == "success", log.error
    collection = collect([tmp_path / "logs"], quiet=True)
    found = {
        h.group.removeprefix("openai-api/conditions/m · "): h.answers
        for section in parts(collection)
        for h in section.headlines
    }
    assert found == {
        "k = 2 · source bad/rows.jsonl": 3,
        "k = 2 · source good/rows.jsonl": 1,
        **{f"{arm} · trigger '{t}'": 1 for t in ("|A| ", "|B| ")
           for arm in ("triggered", "untriggered")},
    }  # fmt: skip
    (said,) = (p.message for p in collection.problems if "cache" in p.message)
    assert said.startswith("2 answers were read from the cache")
