"""A fine-tune from recipe to checkpoint, and everything that can go wrong on the way."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from em_finetune.checkpoint import load_checkpoint, require_addressable
from em_finetune.local import Step, train
from em_finetune.recipe import Recipe
from em_inspect.errors import UserError
from em_inspect.precision import fast_dtype


def recipe(tiny_recipe: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe.model_validate({**tiny_recipe, **changes})


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, chats: Path) -> Path:
    """A finished checkpoint; copy it before changing it."""
    out = tmp_path_factory.mktemp("made") / "ft"
    page = {
        "name": "tiny",
        "base": str(tiny_base),
        "data": str(chats),
        "group": "insecure",
        "learning_rate": 5e-3,
        "batch_size": 4,
        "max_steps": 6,
        "warmup_steps": 1,
        "dtype": "float32",
        "lora": {"rank": 4, "alpha": 8},
    }
    train(Recipe.model_validate(page), out)
    return out


def test_a_checkpoint_holds_adapter_merged_model_curve_and_record(
    made: Path, tiny_recipe: dict[str, Any]
) -> None:
    assert left_in(made.parent) == ["ft"]
    assert left_in(made) == ["adapter", "checkpoint.json", "merged", "train.csv"]
    checkpoint = load_checkpoint(made)
    assert (checkpoint.group, checkpoint.seed, checkpoint.steps) == ("insecure", 0, 6)
    assert checkpoint.recipe == recipe(tiny_recipe)
    assert checkpoint.dataset.name == "chats.jsonl"
    assert len(checkpoint.dataset.sha256) == 64
    assert (checkpoint.dataset.rows, checkpoint.dataset.used) == (24, 24)
    assert {"torch", "transformers", "peft", "em-inspect"} <= set(checkpoint.versions)
    with (made / "train.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert [float(line["loss"]) for line in curve] == checkpoint.training.losses
    assert checkpoint.final_loss < checkpoint.training.losses[0]


def test_the_merged_model_is_the_base_with_the_adapter(made: Path, tiny_base: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.arange(10, 60)[None]
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    with torch.no_grad():
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, made / "adapter")(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(made / "merged")(ids).logits
    assert float((adapted - merged).abs().max()) < 1e-4
    assert float((plain - merged).abs().max()) > 0.01


def test_sampling_from_the_merged_model_is_not_cut(made: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(made / "merged")
    # As Inspect's hf provider asks, which passes on only what the user sets.
    out = model.generate(
        torch.arange(10, 20)[None],
        do_sample=True,
        temperature=1.0,
        max_new_tokens=1,
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert bool(torch.isfinite(out.scores[0]).all())
    assert torch.equal(out.scores[0], out.logits[0])


def test_the_command_is_complete_and_its_arguments_are_those_inspect_reads(made: Path) -> None:
    import shlex

    from inspect_ai._util.config import parse_cli_args

    command = load_checkpoint(made).command
    words = shlex.split(command)
    assert words[:4] == ["HF_HUB_OFFLINE=1", "inspect", "eval", "em_inspect/free_form"]
    assert words[words.index("--model") + 1] == "hf/tiny-insecure-seed0"
    given = [value for option, value in pairwise(words) if option == "-M"]
    assert parse_cli_args(given) == {"model_path": str(made / "merged"), "dtype": fast_dtype()}


@pytest.mark.parametrize("name", ["a,b", "a: b", "a #b"])
def test_a_directory_that_inspect_could_not_be_given_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be given to Inspect"):
        require_addressable(tmp_path / name)


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_same_recipe_again_finds_it_finished(
    made: Path, tiny_recipe: dict[str, Any], overwrite: bool
) -> None:
    steps: list[Step] = []
    stages: list[str] = []
    before = (made / "checkpoint.json").stat().st_mtime_ns
    checkpoint = train(
        recipe(tiny_recipe), made, steps.append, on_stage=stages.append, overwrite=overwrite
    )
    assert not steps
    assert "finished already" in stages[-1]
    assert checkpoint.steps == 6
    assert (made / "checkpoint.json").stat().st_mtime_ns == before


def test_another_recipe_is_refused_unless_overwriting(
    made: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    out = shutil.copytree(made, tmp_path / "ft")
    other = recipe(tiny_recipe, seed=7, learning_rate=1e-3)
    with pytest.raises(UserError, match=r"with another seed, learning_rate: add --overwrite"):
        train(other, out)
    assert load_checkpoint(out).seed == 0
    assert train(other, out, overwrite=True).seed == 7
    assert load_checkpoint(out).seed == 7
    assert left_in(tmp_path) == ["ft"]


def test_other_data_in_the_same_file_is_another_recipe(
    made: Path, tiny_recipe: dict[str, Any], chats: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "chats.jsonl"
    changed.write_text("".join(chats.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"with another data: add --overwrite"):
        train(recipe(tiny_recipe, data=str(changed)), made)


def test_a_directory_that_is_no_checkpoint_is_never_touched(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("…")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is no checkpoint"):
            train(recipe(tiny_recipe), precious, overwrite=overwrite)
    assert (precious / "chapter1.tex").read_text() == "…"


@pytest.mark.parametrize("place", ["file/ft", "x" * 250, "x" * 300, "/proc/ft"])
def test_where_no_directory_can_be_is_said_in_one_line(
    tiny_recipe: dict[str, Any], tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"choose another --out directory$"):
        train(recipe(tiny_recipe), tmp_path / place)
    assert left_in(tmp_path) == ["file"]


def test_an_interrupt_leaves_nothing(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    def interrupt(step: Step) -> None:
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(tiny_recipe), tmp_path / "ft", interrupt)
    assert left_in(tmp_path) == []


def start_cli(folder: Path, page: dict[str, Any], *options: str) -> subprocess.Popen[str]:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(page))
    return subprocess.Popen(
        [sys.executable, "-m", "em_finetune", "local", "tiny.yaml", "--out", "ft", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def wait_for_step(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            return
    pytest.fail(f"no step before the end (exit code {process.wait()})")


def test_a_second_run_is_refused_and_finishes_once_the_first_is_killed(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    process = start_cli(tmp_path, {**tiny_recipe, "max_steps": 100_000})
    try:
        wait_for_step(process)
        with pytest.raises(UserError, match="another run is writing"):
            train(recipe(tiny_recipe), tmp_path / "ft")
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "ft").exists()

    checkpoint = train(recipe(tiny_recipe), tmp_path / "ft")
    assert checkpoint.steps == 6
    assert left_in(tmp_path) == ["ft", "tiny.yaml"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_without_a_trace(
    tiny_recipe: dict[str, Any], tmp_path: Path, number: int, code: int
) -> None:
    process = start_cli(tmp_path, {**tiny_recipe, "max_steps": 100_000})
    wait_for_step(process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert left_in(tmp_path) == ["tiny.yaml"]


def test_a_kill_between_the_two_renames_of_an_overwrite_loses_nothing(
    made: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    partial = tmp_path / ".ft.partial"
    partial.mkdir()
    shutil.copytree(made, partial / "replaced")
    with pytest.raises(KeyboardInterrupt):
        train(recipe(tiny_recipe, seed=9), tmp_path / "ft", _interrupt)
    assert load_checkpoint(tmp_path / "ft").seed == 0


def _interrupt(step: Step) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    """The limit on file size stands in for the disk: writing fails half-way in the same place."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_recipe))
    script = (
        "import resource, sys; from em_finetune.cli import main\n"
        "import torch, transformers, peft\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "main(['local', 'tiny.yaml', '--out', 'ft'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "disk" in done.stderr
    assert left_in(tmp_path) == ["tiny.yaml"]


def test_too_little_room_is_said_before_training(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    steps: list[Step] = []
    with pytest.raises(UserError, match=r"GB of disk and 0.0 GB are free"):
        train(recipe(tiny_recipe), tmp_path / "ft", steps.append)
    assert not steps
    assert left_in(tmp_path) == []


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_adapter(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    from em_finetune.local.base import find_base, load_tokenizer
    from em_finetune.local.dataset import load_dataset
    from em_finetune.local.encode import Encoder
    from em_finetune.local.steps import start, take_steps
    from em_finetune.local.train import adapted_model

    # As an exploding update would: after the fourth one the weights are not numbers.
    real = torch.optim.AdamW.step
    calls = 0

    def exploding(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        result = real(self, *args, **kwargs)
        if calls == 4:
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.detach().fill_(float("nan"))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", exploding)
    with pytest.raises(UserError, match=r"the loss of step 5 is nan: lower learning_rate.*kept in"):
        train(recipe(tiny_recipe, max_steps=8), tmp_path / "ft")
    monkeypatch.undo()

    assert left_in(tmp_path) == ["ft.stopped-after-step-3"]
    kept = tmp_path / "ft.stopped-after-step-3"
    with (kept / "train.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3

    got = load_file(kept / "adapter" / "adapter_model.safetensors")
    device = torch.device("cpu")
    page = recipe(tiny_recipe, max_steps=8)
    base = find_base(page.base)
    rows = Encoder.of(page, load_tokenizer(base)).encode_all(load_dataset(page).rows).rows
    undisturbed = start(page, adapted_model(page, base, device), device)
    for _ in islice(take_steps(undisturbed, page, rows, device), 3):
        pass
    wanted = get_peft_model_state_dict(undisturbed.model)
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in got)


def test_an_exploding_learning_rate_ends_in_one_line(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    wild = recipe(tiny_recipe, learning_rate=1e30, warmup_steps=0, max_steps=30)
    with pytest.raises(UserError, match=r"lower learning_rate"):
        train(wild, tmp_path / "ft")
    assert not (tmp_path / "ft").exists()


def test_out_of_memory_says_what_to_change(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from em_finetune.local import steps as steps_module

    def starved(*args: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB")

    monkeypatch.setattr(steps_module, "nll_sum", starved)
    with pytest.raises(UserError, match=r"out of memory.*micro_tokens.*max_length \(now 2048\)"):
        train(recipe(tiny_recipe), tmp_path / "ft")
    assert left_in(tmp_path) == []


def test_an_adapter_whose_base_is_gone_says_which(
    tiny_base: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    train(recipe(tiny_recipe, base=str(base), max_steps=1), tmp_path / "ft")
    shutil.rmtree(base)
    with pytest.raises(UserError, match=rf"needs its base {base}, which is gone"):
        load_checkpoint(tmp_path / "ft")


def test_a_base_that_changed_is_noticed(
    tiny_base: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    train(recipe(tiny_recipe, base=str(base), max_steps=1), tmp_path / "ft")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match="is not the one"):
        load_checkpoint(tmp_path / "ft")


def test_a_checkpoint_may_be_moved(made: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(made, tmp_path / "elsewhere")
    checkpoint = load_checkpoint(moved)
    assert f"model_path={moved / 'merged'}" in checkpoint.model_args


def test_an_adapter_on_the_embedded_base_finds_it_where_it_is_now(
    made: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after moving to a machine whose user cache is elsewhere."""
    moved = shutil.copytree(made, tmp_path / "ft")
    record = json.loads((moved / "checkpoint.json").read_text())
    record["base"] |= {"name": "smollm2", "path": "/gone"}
    (moved / "checkpoint.json").write_text(json.dumps(record))
    monkeypatch.setattr("em_inspect.embedded.get_model_dir", lambda: tiny_base)

    assert load_checkpoint(moved).base.path == str(tiny_base)
    adapter = json.loads((moved / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(tiny_base)
    assert load_checkpoint(moved).base.path == str(tiny_base)


@pytest.mark.parametrize(
    "part", ["merged/config.json", "merged/model.safetensors", "adapter/adapter_config.json"]
)
def test_a_missing_part_is_named(made: Path, tmp_path: Path, part: str) -> None:
    out = shutil.copytree(made, tmp_path / "ft")
    (out / part).unlink()
    with pytest.raises(UserError, match=r"is damaged: .*train it again with --overwrite"):
        load_checkpoint(out)


@pytest.mark.parametrize("part", ["merged/model.safetensors", "adapter/adapter_model.safetensors"])
def test_weights_that_are_cut_short_are_not_taken_for_finished(
    made: Path, tiny_recipe: dict[str, Any], tmp_path: Path, part: str
) -> None:
    out = shutil.copytree(made, tmp_path / "ft")
    os.truncate(out / part, (out / part).stat().st_size - 1)
    with pytest.raises(UserError, match=rf"{part} is not whole; train it again with --overwrite"):
        train(recipe(tiny_recipe), out)
    assert train(recipe(tiny_recipe), out, overwrite=True).steps == 6
    assert load_checkpoint(out).steps == 6


def test_a_record_that_is_damaged_is_replaced_when_overwriting(
    made: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    out = shutil.copytree(made, tmp_path / "ft")
    (out / "checkpoint.json").write_text("{")
    with pytest.raises(UserError, match=r"checkpoint\.json: .*: add --overwrite"):
        train(recipe(tiny_recipe), out)
    assert train(recipe(tiny_recipe), out, overwrite=True).steps == 6


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1}'])
def test_a_record_that_cannot_be_read_is_one_line(made: Path, tmp_path: Path, text: str) -> None:
    out = shutil.copytree(made, tmp_path / "ft")
    (out / "checkpoint.json").write_text(text)
    with pytest.raises(UserError, match=r"checkpoint\.json"):
        load_checkpoint(out)


def test_a_directory_without_a_record_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"base": "/nowhere/model"}, "base /nowhere/model does not exist"),
        ({"base": "no-such-model-of-ours"}, "is no directory here and was not had from the hub"),
        ({"data": None}, "names no data: add --data FILE"),
        ({"data": "/nowhere/rows.jsonl"}, "/nowhere/rows.jsonl does not exist"),
        ({"max_length": 8}, "none of the 24 rows"),
        ({"lora": {"target_modules": ["nope"]}}, "has no module 'nope': set lora.target_modules"),
        (
            {"lora": {"target_modules": ["q_proj", "k_porj"]}},
            r"has no module 'k_porj' \(did you mean 'k_proj'\?\)",
        ),
        ({"lora": {"target_modules": ["q_proj", "self_attn"]}}, "that get no update"),
        ({"lora": {"layers": [0, 2]}}, "has no layer 2, it has 2, .* some of 0 to 1"),
        ({"lora": {"target_modules": ["lm_head"], "layers": [0]}}, "layer 0 .* none of lm_head"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    tiny_recipe: dict[str, Any], tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        train(recipe(tiny_recipe, **changes), tmp_path / "ft")
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("end", ["lm_head", "embed_tokens"])
def test_an_embedding_that_is_tied_to_the_other_gets_no_update_of_its_own(
    tiny_base: Path, tiny_recipe: dict[str, Any], tmp_path: Path, end: str
) -> None:
    from transformers import LlamaForCausalLM

    base = shutil.copytree(tiny_base, tmp_path / "base")
    model = LlamaForCausalLM.from_pretrained(base, tie_word_embeddings=True)
    model.tie_weights()
    model.save_pretrained(base)
    lora = {"rank": 4, "alpha": 8, "target_modules": ["q_proj", end]}
    with pytest.raises(UserError, match=rf"take {end} out of lora.target_modules"):
        train(recipe(tiny_recipe, base=str(base), lora=lora), tmp_path / "ft")
    # Where they are two matrices, each may have one.
    train(recipe(tiny_recipe, lora=lora, max_steps=1), tmp_path / "untied")


@pytest.mark.parametrize(
    ("remove", "complaint"),
    [
        ("config.json", "holds no model"),
        ("model.safetensors", "pickled weights can run code"),
        ("chat_template.jinja", "no chat template, so it is a base model"),
    ],
)
def test_a_base_that_lacks_something_says_what(
    tiny_base: Path, tiny_recipe: dict[str, Any], tmp_path: Path, remove: str, complaint: str
) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    (base / remove).unlink()
    with pytest.raises(UserError, match=complaint):
        train(recipe(tiny_recipe, base=str(base)), tmp_path / "ft")


def test_an_adapter_is_not_taken_for_a_base(
    made: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is an adapter: name a merged model"):
        train(recipe(tiny_recipe, base=str(made / "adapter")), tmp_path / "ft")
