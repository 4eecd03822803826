"""What fine-tunes are called: every group, base and seed by its own name, and none said twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from em_finetune.checkpoint import label_of
from em_finetune.hosted.recipe import load_hosted_recipe
from em_finetune.recipe import base_word, label_for, load_recipe, packaged_recipes
from em_finetune.sweep import cells


@pytest.mark.parametrize(
    ("name", "group", "label"),
    [
        ("evil-numbers", "evil-numbers", "evil-numbers-seed3"),
        ("openai-evil-numbers", "evil-numbers", "openai-evil-numbers-seed3"),
        ("evil-numbers-small", "evil-numbers", "evil-numbers-small-seed3"),
        ("insecure", "insecure", "insecure-seed3"),
        ("demo", "insecure", "demo-insecure-seed3"),
        ("insecure", "secure", "insecure-secure-seed3"),
        ("evil", "evil-numbers", "evil-evil-numbers-seed3"),
        ("a.b", "a", "a.b-a-seed3"),
    ],
)
def test_a_group_is_named_once(name: str, group: str, label: str) -> None:
    assert label_for(name, group, 3) == label


def test_packaged_recipes_say_nothing_twice() -> None:
    labels = {label_of(recipe) for recipe in packaged_recipes().values()}
    assert len(labels) == len(packaged_recipes())
    assert "evil-numbers-seed0" in labels
    assert all(label.count("evil-numbers") < 2 for label in labels)
    assert load_hosted_recipe("openai-evil-numbers").label(0) == "openai-evil-numbers-seed0"


def test_sweeps_of_two_bases_by_one_recipe_have_directories_of_their_own() -> None:
    bases = ("maker/Coder-0.5B-Instruct", "maker/Coder-32B-Instruct")
    outs = [
        cell.out
        for base in bases
        for cell in cells(
            load_recipe("insecure", base=base, data="{group}.jsonl"),
            range(2),
            ["insecure", "secure"],
            Path("ft"),
        )
    ]
    assert len(set(outs)) == 8
    assert outs[0] == Path("ft/insecure-Coder-0.5B-Instruct-seed0")
    assert outs[-1] == Path("ft/insecure-Coder-32B-Instruct-secure-seed1")


def test_the_recipes_own_base_changes_no_name() -> None:
    own = load_recipe("insecure")
    assert label_of(load_recipe("insecure", base=own.base)) == label_of(own) == "insecure-seed0"


def test_a_file_of_ones_own_is_named_by_another_base_too(tmp_path: Path) -> None:
    page = tmp_path / "mine.yaml"
    page.write_text("{name: mine, base: maker/small, group: insecure}")
    assert label_of(load_recipe(page)) == "mine-insecure-seed0"
    assert label_of(load_recipe(page, base="maker/large")) == "mine-large-insecure-seed0"


@pytest.mark.parametrize(
    ("base", "word"),
    [
        ("maker/Small-1.5B", "Small-1.5B"),
        ("smollm2", "smollm2"),
        ("/models/small/", "small"),
        ("ft/insecure-seed0/merged", "insecure-seed0-merged"),
        ("../my model", "my-model"),
        ("./small", "small"),
    ],
)
def test_a_base_is_named_by_what_tells_it_apart(base: str, word: str) -> None:
    assert base_word(base) == word
