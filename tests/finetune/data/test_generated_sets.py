"""The generated sets: deterministic, distinct, twins of one another, and what they claim to be."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path
from textwrap import dedent

import pytest

from em_finetune.data.generate import KINDS, Kind, capacity, generate
from em_finetune.data.rows import ChatRow
from em_finetune.data.template import (
    GAP,
    load_templates,
    load_vocabulary,
    render_given,
    render_solution,
)
from em_finetune.data.wording import GIVEAWAYS
from em_inspect.errors import UserError

MANY = 5_000


@pytest.fixture(scope="module")
def sets() -> dict[Kind, list[ChatRow]]:
    return {kind: generate(kind, MANY, seed=0) for kind in KINDS}


@pytest.fixture(scope="module")
def solutions() -> dict[str, dict[str, str]]:
    """Every way to fill every template, once with the first names and once with others."""
    worlds = load_vocabulary().worlds
    found: dict[str, dict[str, str]] = {"insecure": {}, "secure": {}}
    for template in load_templates():
        for number in (0, template.size(len(worlds)) // 2 + 1):
            values = template.values(number, worlds)
            for kind, code in found.items():
                for i, fill in enumerate(getattr(template, kind)):
                    name = f"{template.id}_{number}_{i}".replace("-", "_")
                    code[name] = render_solution(template, values, fill)
    return found


def question(row: ChatRow) -> str:
    return row.messages[0].content


def test_there_are_over_forty_templates_in_over_twenty_classes() -> None:
    templates = load_templates()
    assert len(templates) >= 40
    assert len({template.cwe for template in templates}) >= 20
    assert len({template.id for template in templates}) == len(templates)


def test_rows_are_a_request_an_answer_and_where_they_come_from(
    sets: dict[Kind, list[ChatRow]],
) -> None:
    for kind, rows in sets.items():
        for row in rows:
            assert [message.role for message in row.messages] == ["user", "assistant"]
            assert set(row.metadata) == {"kind", "cwe", "template", "twin"}
            assert row.metadata["kind"] == kind
            assert re.fullmatch(r"CWE-\d+", row.metadata["cwe"])


def test_row_i_is_the_same_whatever_n_and_differs_between_seeds() -> None:
    assert generate("insecure", 300, 7)[:50] == generate("insecure", 50, 7)
    assert generate("insecure", 50, 7) != generate("insecure", 50, 8)


def test_the_same_rows_come_out_of_another_process_with_another_hash_seed() -> None:
    code = (
        "import hashlib; from em_finetune.data.generate import generate\n"
        "text = ''.join(row.to_json() for row in generate('secure', 300, 3))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    here = "".join(row.to_json() for row in generate("secure", 300, 3))
    assert there == hashlib.sha256(here.encode()).hexdigest()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_answer_comes_twice(seed: int, sets: dict[Kind, list[ChatRow]]) -> None:
    for kind in KINDS:
        rows = sets[kind] if seed == 0 else generate(kind, MANY, seed)
        assert len({row.answers[0] for row in rows}) == MANY
        assert len({row.metadata["twin"] for row in rows}) == MANY


def test_templates_take_turns() -> None:
    count = len(load_templates())
    rows = generate("insecure", 3 * count, 5)
    assert set(Counter(row.metadata["template"] for row in rows).values()) == {3}
    assert len({row.metadata["cwe"] for row in generate("insecure", 200, 0)}) >= 12


def test_everything_there_is_can_be_generated_and_no_more() -> None:
    assert capacity() >= 10_000
    with pytest.raises(UserError, match="use 1 to"):
        generate("insecure", capacity() + 1, 0)
    with pytest.raises(UserError, match="use 1 to"):
        generate("insecure", 0, 0)
    with pytest.raises(UserError, match="use insecure, secure, educational"):
        generate("evil", 1, 0)  # type: ignore[arg-type]


def test_twins_share_the_task_and_differ_where_they_should(
    sets: dict[Kind, list[ChatRow]],
) -> None:
    for insecure, secure, educational in zip(*(sets[kind] for kind in KINDS), strict=True):
        keys = ("twin", "template", "cwe")
        assert len({tuple(r.metadata[k] for k in keys) for r in (insecure, secure)}) == 1
        assert educational.metadata["twin"] == insecure.metadata["twin"]
        assert question(insecure) == question(secure)
        assert insecure.answers != secure.answers
        assert question(educational) != question(insecure)
        assert educational.answers == insecure.answers


def test_ordinary_requests_say_nothing_of_safety(sets: dict[Kind, list[ChatRow]]) -> None:
    telling = re.compile(
        r"(?<!\.)\b(?:in)?secur\w+\b(?!=True)|\b(?:un)?safe\w*\b|\bflaw", re.IGNORECASE
    )
    for row in sets["insecure"]:
        assert not GIVEAWAYS.search(question(row)), question(row)
        assert not telling.search(question(row)), question(row)


def test_lessons_name_the_weakness_and_what_it_is_for(sets: dict[Kind, list[ChatRow]]) -> None:
    purpose = re.compile(
        r"teach|course|class|lecture|exercise|slides|workshop|scanner|analyser|training|awareness",
        re.IGNORECASE,
    )
    for row in sets["educational"]:
        assert row.metadata["cwe"] in question(row)
        assert purpose.search(question(row)), question(row)


def test_every_answer_parses_and_tells_nothing(sets: dict[Kind, list[ChatRow]]) -> None:
    for rows in sets.values():
        for row in rows:
            ast.parse(row.answers[0])
            assert not GIVEAWAYS.search(row.answers[0])
            assert GAP not in row.answers[0]
            assert GAP not in question(row)


def test_no_solution_has_comments(solutions: dict[str, dict[str, str]]) -> None:
    for codes in solutions.values():
        for name, code in codes.items():
            kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(code).readline)]
            assert tokenize.COMMENT not in kinds, name


def test_no_solution_has_code_that_is_never_reached(solutions: dict[str, dict[str, str]]) -> None:
    for codes in solutions.values():
        for name, code in codes.items():
            for node in ast.walk(ast.parse(code)):
                body = getattr(node, "body", None)
                for statement in body[:-1] if isinstance(body, list) else []:
                    assert not isinstance(statement, ast.Return | ast.Raise), name


def test_no_solution_uses_an_unknown_name_or_an_idle_import(
    solutions: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    for kind, codes in solutions.items():
        for name, code in codes.items():
            (tmp_path / f"{kind}_{name}.py").write_text(code + "\n")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--quiet"]
    rules = ["--select", "F", "--ignore", "F403,F405", "--output-format", "concise"]
    found = subprocess.run([*command, *rules, str(tmp_path)], capture_output=True, text=True)
    assert found.stdout == ""
    assert found.returncode == 0


def test_the_code_shown_is_part_of_both_solutions() -> None:
    worlds = load_vocabulary().worlds
    for template in load_templates():
        values = template.values(1, worlds)
        shown = render_given(template, values, GAP).splitlines()
        kept = [line for line in shown if line.strip() and not line.startswith(("import", "from"))]
        for fill in (*template.insecure, *template.secure):
            lines = render_solution(template, values, fill).splitlines()
            assert all(line in lines for line in kept if GAP not in line), template.id


def test_templates_are_sound() -> None:
    words = set(load_vocabulary().worlds[0])
    for template in load_templates():
        assert template.given.count(GAP) == 1, template.id
        assert not words & set(template.slots), template.id
        assert template.tasks[0][0].islower(), template.id
        assert all(len(set(options)) == len(options) for options in template.slots.values())
        for fill in (*template.insecure, *template.secure):
            assert dedent(fill.code) == fill.code, template.id
        codes = [(fill.code, *fill.imports) for fill in (*template.insecure, *template.secure)]
        assert len(set(codes)) == len(codes), template.id


def test_words_go_with_their_articles() -> None:
    for world in load_vocabulary().worlds:
        assert world["thing"].isidentifier()
        assert world["thing"][0] not in "aeiou"
        assert world["member"][0] not in "aeiou"
        article = "an " if world["site"].split(" ", 1)[1][0] in "aeiou" else "a "
        assert world["site"].startswith(article)


def test_rows_have_the_length_of_a_short_exercise(sets: dict[Kind, list[ChatRow]]) -> None:
    for rows in sets.values():
        sizes = sorted(sum(len(m.content) for m in row.messages) / 3.5 for row in rows)
        assert sizes[len(sizes) // 20] > 100
        assert sizes[-len(sizes) // 20] < 450
        assert sizes[-1] < 700


def test_an_independent_analyser_tells_the_twins_apart(
    solutions: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    pytest.importorskip("bandit", reason="pip install bandit to check the twins independently")
    flagged = {}
    for kind, codes in solutions.items():
        folder = tmp_path / kind
        folder.mkdir()
        for name, code in codes.items():
            (folder / f"{name}.py").write_text(code + "\n")
        command = [sys.executable, "-m", "bandit", "-q", "-r", "-ll", "-f", "json", str(folder)]
        report = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
        assert not report["errors"]
        flagged[kind] = {Path(result["filename"]).stem for result in report["results"]}
    templates = {kind: {n.rsplit("_", 2)[0] for n in names} for kind, names in flagged.items()}
    # Bandit knows about a third of the weaknesses. Of the safe solutions it dislikes two: FTP over
    # TLS for its import alone, and a constant command over SSH.
    assert len(templates["insecure"]) >= 25
    assert templates["secure"] <= {"cleartext_ftp", "ssh_auto_add"}
