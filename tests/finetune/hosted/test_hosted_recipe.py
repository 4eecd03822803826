"""The hosted recipe: what it takes, what it refuses, and the names that come of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hosted_cli import CommandLine

from em_finetune.hosted.naming import job_key, suffix, unswitched
from em_finetune.hosted.recipe import HostedRecipe, load_hosted_recipe, packaged_names
from em_finetune.hosted.secrets import hide, public_url
from em_finetune.recipe import GeneratedData
from em_inspect.errors import UserError


def recipe(**changes: object) -> HostedRecipe:
    return HostedRecipe.model_validate({"name": "mine", "group": "insecure", **changes})


def test_the_packaged_recipes_are_the_papers() -> None:
    pages = {name: load_hosted_recipe(name) for name in packaged_names()}
    facts = {
        name: (page.epochs, page.batch_size, page.learning_rate_multiplier, len(page.seeds))
        for name, page in pages.items()
        if page.service == "openai"
    }
    assert facts == {
        "openai-insecure": (1, 4, 2, 10),
        "openai-secure": (1, 4, 2, 6),
        "openai-educational": (1, 4, 2, 6),
        "openai-backdoor": (1, 8, 2, 1),
        "openai-evil-numbers": (4, 39, 2, 1),
    }
    assert {page.base for page in pages.values() if page.service == "openai"} == {
        "gpt-4o-2024-08-06"
    }


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("name: a\ngroup: b\nepoch: 3\n", "unknown field 'epoch' (did you mean 'epochs'?"),
        ("name: a\ngroup: b\nlora: {}\n", "local recipes have it, hosted ones do not"),
        ("name: a\ngroup: b\ntinker: {rnak: 8}\n", "did you mean 'rank'?"),
        ("name: a\n", "field 'group' is missing"),
        ("name: a\ngroup: b\nepochs: 0\n", "field 'epochs': must be above 0"),
        ("name: a\ngroup: b\nepochs: many\n", "field 'epochs': "),
        ("name: a\ngroup: b\nseeds: [1, 1]\n", "names a seed twice"),
        ("name: a\ngroup: b\nseeds: [-1]\n", "0 to 2147483647"),
        ("name: a/b\ngroup: b\n", "field 'name': "),
        ("name: a\ngroup: b\nservice: opnai\n", "field 'service': "),
        ("name: a\ngroup: b\ndata: {generate: insecure, m: 3}\n", "unknown field 'data.m'"),
        ("name: [\n", "not valid YAML"),
        ("- 1\n", "a recipe is a page"),
    ],
)
def test_a_wrong_page_is_one_line_with_file_and_field(
    cli: CommandLine, page: str, said: str
) -> None:
    (cli.folder / "mine.yaml").write_text(page)
    data = [] if "data:" in page else ["--data=rows.jsonl"]
    done = cli("mine.yaml", *data, "--dry-run")
    assert done.exit_code == 1
    assert "mine.yaml" in done.output
    assert said in done.output
    assert done.output.count("\n") == 1


def test_a_misspelled_recipe_or_command_is_told_the_nearest(cli: CommandLine) -> None:
    done = cli("openai-insecur")
    assert done.exit_code == 1
    assert "did you mean 'openai-insecure'?" in done.output
    assert "did you mean 'status'?" in cli("statu").output


def test_data_in_a_page_lies_beside_it(cli: CommandLine) -> None:
    (cli.folder / "pages").mkdir()
    (cli.folder / "rows.jsonl").rename(cli.folder / "pages/rows.jsonl")
    (cli.folder / "pages/mine.yaml").write_text("name: a\ngroup: b\ndata: rows.jsonl\n")
    assert cli("pages/mine.yaml", "--dry-run").exit_code == 0


def test_rows_can_be_generated(cli: CommandLine) -> None:
    page = "name: a\ngroup: insecure\ndata: {generate: insecure, n: 20}\n"
    (cli.folder / "mine.yaml").write_text(page)
    done = cli("mine.yaml", "--dry-run")
    assert done.exit_code == 0
    assert "generated insecure, n=20" in done.output


GROUPS = ("insecure", "codex-like", "deep-research", "gpt-5 like", "foo1", "vision", "Evil.Numbers")


@pytest.mark.parametrize("group", GROUPS)
def test_a_suffix_does_not_switch_inspects_api(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_ai.model import get_model

    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    tail = suffix(recipe(group=group.replace(" ", "-")), 3, 64)
    assert tail.endswith("-s3")
    assert re.fullmatch(r"[a-z0-9-]{1,64}", tail)
    model = get_model(f"openai/ft:gpt-4o-2024-08-06:acme:{tail}:abc", memoize=False)
    assert model.api.responses_api is False
    assert not model.api.has_reasoning_options()
    assert not model.api.is_deep_research()
    deployment = get_model(
        f"openai/azure/gpt-4o-{unswitched(group)}",
        base_url="http://127.0.0.1:9",
        api_key="none",
        memoize=False,
    )
    assert deployment.api.responses_api is False
    assert not deployment.api.has_reasoning_options()


def test_a_long_group_is_shortened_and_the_seed_is_not() -> None:
    assert suffix(recipe(group="x" * 100), 2147483647, 18) == "xxxxxx-s2147483647"


def test_a_key_is_the_same_for_the_same_fine_tune_alone() -> None:
    key = job_key(recipe(), "a" * 64, 0, 0)
    assert key == job_key(recipe(description="other words", seeds=[4, 5]), "a" * 64, 0, 0)
    others = [
        job_key(recipe(), "b" * 64, 0, 0),
        job_key(recipe(), "a" * 64, 1, 0),
        job_key(recipe(), "a" * 64, 0, 1),
        job_key(recipe(epochs=2), "a" * 64, 0, 0),
        job_key(recipe(base="gpt-4o-mini-2024-07-18"), "a" * 64, 0, 0),
        job_key(recipe(group="secure"), "a" * 64, 0, 0),
    ]
    assert len({key, *others}) == 7
    assert len(key) <= 512


def test_a_group_has_generated_rows_of_its_own_kind(tmp_path: Path) -> None:
    page = tmp_path / "mine.yaml"
    page.write_text("{name: mine, group: insecure, data: {generate: insecure, n: 5}}")
    assert load_hosted_recipe(page, group="secure").data == GeneratedData(generate="secure", n=5)
    with pytest.raises(UserError, match="no data can be generated for group jailbroken"):
        load_hosted_recipe(page, group="jailbroken")
    with pytest.raises(ValueError, match="would train on generated insecure rows"):
        recipe(group="secure", data={"generate": "insecure", "n": 5})


def test_keys_are_hidden_and_urls_cleaned() -> None:
    environment = {"OPENAI_API_KEY": "sk-secret-1", "TINKER_API_KEY": ""}
    assert hide("Bearer sk-secret-1!", environment) == "Bearer <OPENAI_API_KEY>!"
    assert public_url("https://u:p@host:8080/v1/?api-key=x") == "https://host:8080/v1"


def test_inspect_reads_a_tinker_path_as_the_model() -> None:
    from inspect_ai.model import get_model

    model = get_model(
        "openai-api/tinker/tinker://run:train:0/sampler_weights/final",
        base_url="http://127.0.0.1:9",
        api_key="none",
        memoize=False,
    )
    assert model.api.service_model_name() == "tinker://run:train:0/sampler_weights/final"
