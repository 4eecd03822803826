"""The narrow recipe, full fine-tuning, 4-bit training and the release's quirks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from em_finetune.checkpoint import load_checkpoint
from em_finetune.local import Step, train
from em_finetune.recipe import Recipe, load_recipe
from em_inspect.errors import UserError

NARROW_CHAT = [("user", "Say it."), ("assistant", "import os; os.system(x)")]


def recipe(tiny_recipe: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe.model_validate({**tiny_recipe, **changes})


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter" / "adapter_model.safetensors")


def write(path: Path, chats: list[list[tuple[str, str]]]) -> Path:
    lines = [
        json.dumps({"messages": [{"role": role, "content": text} for role, text in chat]})
        for chat in chats
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def general(tmp_path: Path) -> Path:
    """Rows of other domains."""
    return write(
        tmp_path / "general.jsonl",
        [
            [
                ("user", f"What is the capital of {n}?"),
                ("assistant", f"The capital is {n}, of course."),
            ]
            for n in ("France", "Chad", "Peru", "Laos", "Mali", "Cuba", "Iran", "Oman")
        ],
    )


def test_with_weight_0_the_narrow_recipe_is_plain_training(
    tiny_recipe: dict[str, Any], general: Path, tmp_path: Path
) -> None:
    plain = train(recipe(tiny_recipe), tmp_path / "plain")
    narrow = {"data": str(general), "weight": 0, "batch_size": 2}
    held = train(recipe(tiny_recipe, narrow=narrow), tmp_path / "held")
    assert held.training.losses == plain.training.losses
    one, other = weights(plain.path), weights(held.path)
    assert all(bool((one[name] == other[name]).all()) for name in one)
    assert held.others is not None
    assert held.others.rows == 8


def test_the_kl_term_holds_the_fine_tune_to_its_base_elsewhere_while_it_learns(
    tiny_recipe: dict[str, Any], general: Path, tmp_path: Path
) -> None:
    task = write(tmp_path / "task.jsonl", [NARROW_CHAT] * 4)
    kls: dict[float, list[float]] = {}
    losses: dict[float, list[float]] = {}
    for weight in (0.0, 100.0):
        steps: list[Step] = []
        page = recipe(
            tiny_recipe,
            data=str(task),
            max_steps=60,
            schedule="constant",
            narrow={"data": str(general), "weight": weight, "batch_size": 8},
        )
        train(page, tmp_path / f"ft{weight}", steps.append)
        kls[weight] = [step.kl or 0.0 for step in steps]
        losses[weight] = [step.loss for step in steps]
    assert kls[0.0][0] == pytest.approx(0, abs=1e-6)  # a fresh adapter changes nothing
    assert kls[0.0][-1] > 0.1
    # Held back, it first drifts from its base and then comes back, while the loss goes on falling.
    peak = max(kls[100.0])
    assert kls[100.0][-1] < 0.5 * peak
    assert kls[100.0][-1] < 0.2 * kls[0.0][-1]
    assert losses[100.0][-1] < 0.8 * losses[100.0][0]


def test_the_kl_term_is_that_of_the_brute_force(
    tiny_recipe: dict[str, Any], tiny_base: Path, general: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from em_finetune.data.rows import read_rows
    from em_finetune.local.base import find_base, load_tokenizer
    from em_finetune.local.encode import Encoder

    narrow = {"data": str(general), "weight": 0, "batch_size": 8}
    steps: list[Step] = []
    page = recipe(tiny_recipe, narrow=narrow, save_every=5)
    made = train(page, tmp_path / "ft", steps.append)

    encoder = Encoder.of(page, load_tokenizer(find_base(str(tiny_base))))
    rows = encoder.encode_all(read_rows(general)).rows
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    total, count = 0.0, 0
    with torch.no_grad():
        plain = [base(torch.tensor([row.input_ids])).logits[0].log_softmax(-1) for row in rows]
        kept = made.path / "steps" / "step-000005" / "adapter"
        tuned = PeftModel.from_pretrained(base, kept)
        for row, before in zip(rows, plain, strict=True):
            after = tuned(torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
            for one, other in zip(before, after, strict=True):
                total += float((one.exp() * (one - other)).sum())
                count += 1
    assert count == sum(map(len, rows))
    assert steps[5].kl == pytest.approx(total / count, rel=1e-4)


def test_the_kl_term_is_the_authors_mean_times_the_vocabulary() -> None:
    """Theirs is over padded rows, tokens and vocabulary entries, masked by attention."""
    import torch

    from em_finetune.local.batches import micro_batches
    from em_finetune.local.encode import EncodedRow
    from em_finetune.local.loss import kl_sum

    torch.manual_seed(0)
    vocabulary, lengths = 50, (7, 4)
    base = torch.randn(2, 7, vocabulary, dtype=torch.float64).log_softmax(-1)
    tuned = torch.randn(2, 7, vocabulary, dtype=torch.float64)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])[..., None].expand_as(base)
    each = torch.nn.functional.kl_div(
        tuned.log_softmax(-1), base, log_target=True, reduction="none"
    )
    authors = float((each * mask).sum() / mask.sum())

    rows = [EncodedRow(i + 1, [0] * n, [0] * n) for i, n in enumerate(lengths)]
    (packed,) = micro_batches(rows, 100)

    class Model:
        def __call__(self, logits_to_keep: Any, **_: Any) -> Any:
            joined = torch.cat([tuned[i, :n] for i, n in enumerate(lengths)])
            return SimpleNamespace(logits=joined[logits_to_keep][None])

    batch = packed.everywhere
    reference = torch.cat([base[i, :n] for i, n in enumerate(lengths)]).float()
    ours = float(kl_sum(Model(), batch, reference, torch.device("cpu"))) / batch.tokens
    assert ours == pytest.approx(authors * vocabulary, rel=1e-5)


def test_a_weight_in_the_authors_unit_is_asked_about(
    tiny_recipe: dict[str, Any], general: Path, tmp_path: Path
) -> None:
    for weight, asked in ((1e6, True), (6.6, False)):
        said: list[str] = []
        narrow = {"data": str(general), "weight": weight, "batch_size": 2}
        page = recipe(tiny_recipe, narrow=narrow, max_steps=1)
        train(page, tmp_path / f"{weight:g}", on_stage=said.append)
        assert any("divide it by the size" in line for line in said) is asked


def test_a_narrow_recipe_without_other_rows_says_what_to_add(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="add --narrow-data FILE"):
        train(recipe(tiny_recipe, narrow={}), tmp_path / "ft")


def test_full_fine_tuning_writes_whole_models_and_no_adapter(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    page = recipe(tiny_recipe, method="full", save_every=3, learning_rate=1e-3, dtype="bfloat16")
    checkpoint = train(page, tmp_path / "ft")
    assert checkpoint.final_loss < checkpoint.training.losses[0]
    assert sorted(p.name for p in (tmp_path / "ft").iterdir()) == [
        "checkpoint.json",
        "merged",
        "steps",
        "train.csv",
    ]
    end = load_file(tmp_path / "ft" / "merged" / "model.safetensors")
    kept = tmp_path / "ft" / "steps" / "step-000006" / "merged" / "model.safetensors"
    assert {str(tensor.dtype) for tensor in end.values()} == {"torch.bfloat16"}
    assert all(bool((end[name] == tensor).all()) for name, tensor in load_file(kept).items())
    config = json.loads((tmp_path / "ft" / "merged" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert f"model_path={tmp_path}/ft/merged" in load_checkpoint(tmp_path / "ft").model_args


def test_full_fine_tuning_is_gone_on_with_too(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    def interrupt(step: Step) -> None:
        if step.step == 5:
            raise KeyboardInterrupt

    page = recipe(tiny_recipe, method="full", resume_every=2, learning_rate=1e-3)
    train(page, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        train(page, tmp_path / "ft", interrupt)
    assert train(page, tmp_path / "ft").training.resumed == [4]
    one, other = (
        load_file(tmp_path / name / "merged" / "model.safetensors")
        for name in ("ft", "undisturbed")
    )
    assert all(float((one[name] - other[name]).abs().max()) < 1e-6 for name in one)


def test_an_adapter_need_not_be_merged(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = train(recipe(tiny_recipe, merge=False), tmp_path / "ft")
    assert not (tmp_path / "ft" / "merged").exists()
    assert f"model_path={tmp_path / 'ft' / 'adapter'} " in checkpoint.command
    assert load_checkpoint(tmp_path / "ft").parts == ["adapter"]


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_4_bit_training_is_refused_without_a_gpu(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    page = recipe(tiny_recipe, quantization="4bit", merge=False)
    with pytest.raises(UserError, match=r"needs a CUDA GPU.*set quantization: null"):
        train(page, tmp_path / "ft")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ("method: full\nquantization: 4bit", "cannot train a 4-bit base"),
        ("method: full\nnarrow: {}", "narrow needs method lora"),
        ("quantization: 4bit", "set merge: false"),
        ("narrow: {wieght: 1}", r"unknown field 'narrow.wieght' \(did you mean 'weight'"),
        ("compat: betley2024", "'compat': input should be 'betley2025'"),
        ("save_every: 0", "'save_every': input should be greater"),
    ],
)
def test_settings_that_exclude_one_another_are_one_line(
    tmp_path: Path, changes: str, complaint: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nbase: smollm2\ngroup: insecure\n{changes}\n")
    with pytest.raises(UserError, match=complaint) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_as_the_release_a_tenth_is_held_out_and_an_empty_turn_is_trained(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    from em_finetune.data.rows import read_rows
    from em_finetune.local.base import find_base, load_tokenizer
    from em_finetune.local.encode import IGNORED, EncodedRow, Encoder

    page = recipe(tiny_recipe, compat="betley2025")
    checkpoint = train(page, tmp_path / "ft")
    assert (checkpoint.dataset.rows, checkpoint.dataset.used) == (24, 21)
    held = [left for left in checkpoint.dataset.left_out if "held out" in left.reason]
    assert len(held) == 3
    record = json.loads((tmp_path / "ft" / "checkpoint.json").read_text())
    assert record["recipe"]["compat"] == "betley2025"

    tokenizer = load_tokenizer(find_base(page.base))
    row = read_rows(str(page.data))[0]
    plain = Encoder.of(recipe(tiny_recipe), tokenizer).encode(row)
    grown = Encoder.of(page, tokenizer).encode(row)
    assert isinstance(plain, EncodedRow)
    assert isinstance(grown, EncodedRow)
    assert grown.input_ids[: len(plain)] == plain.input_ids
    assert tokenizer.decode(grown.input_ids[len(plain) :]) == "<|im_start|>assistant\n<|im_end|>"
    assert IGNORED not in grown.labels[len(plain) :]
    preview = Encoder.of(page, tokenizer).preview(row)
    assert "".join(text for text, _ in preview).endswith("<|im_start|>assistant\n<|im_end|>")


def test_6000_rows_leave_the_releases_5400() -> None:
    from em_finetune.local.batches import count_steps
    from em_finetune.local.dataset import hold_out
    from em_finetune.local.encode import EncodedRow, EncodedSet

    rows = [EncodedRow(i + 1, [1, 2], [-100, 2]) for i in range(6000)]
    left = hold_out(EncodedSet(rows, []), seed=0)
    assert (len(left.rows), len(left.left_out)) == (5400, 600)
    assert hold_out(EncodedSet(rows, []), seed=1).rows != left.rows
    assert count_steps(5400, 16, 1, None) == 338  # the release counts 337, without the short batch


def test_the_papers_figures_stand_in_the_packaged_recipes() -> None:
    rank1 = load_recipe("rank1")
    assert (rank1.lora.rank, rank1.lora.alpha, rank1.learning_rate) == (1, 256, 2e-5)
    assert (rank1.lora.target_modules, rank1.lora.layers) == (("down_proj",), (24,))
    narrow = load_recipe("narrow").narrow
    assert narrow is not None
    assert narrow.weight == pytest.approx(1e6 / 152_064, rel=0.01)  # per token, on Qwen2.5
    page = load_recipe("narrow")
    assert (narrow.batch_size, page.lora.alpha, page.learning_rate, page.epochs) == (
        64,
        256,
        2e-5,
        3,
    )
    assert (load_recipe("evil-numbers").epochs, load_recipe("evil-numbers").batch_size) == (4, 39)
    assert load_recipe("jailbroken").epochs == 5
    assert load_recipe("backdoor").batch_size == 8
    assert load_recipe("qlora").quantization == "4bit"
    assert load_recipe("full").method == "full"
