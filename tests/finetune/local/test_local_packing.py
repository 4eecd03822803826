"""Rows are packed only where the loaded base keeps them apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import CHATML, make_tokenizer

from em_finetune.local import train
from em_finetune.local.batches import micro_batches
from em_finetune.local.encode import EncodedRow
from em_finetune.local.packing import try_packing
from em_finetune.local.processes import ALONE
from em_finetune.local.steps import start
from em_finetune.local.train import trainable_model
from em_finetune.recipe import Recipe

COMMON = {
    "vocab_size": 430,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
APART: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Mistral": {"sliding_window": 8},
    "Gemma2": {"head_dim": 8, "sliding_window": 8},
    "Mixtral": {"num_local_experts": 4},
}
SEEING: dict[str, dict[str, Any]] = {
    "GptOss": {
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 8,
    },
    "Lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "Qwen3Next": {
        "head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
}


def tiny(family: str) -> Any:
    import torch
    import transformers

    settings = {**COMMON, **APART.get(family, {}), **SEEING.get(family, {})}
    config = getattr(transformers, f"{family}Config")(**settings)
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForCausalLM")(config)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [*APART, *SEEING])
def test_a_trial_tells_whether_rows_see_one_another(family: str, dtype: str) -> None:
    import torch

    model = tiny(family).to(getattr(torch, dtype)).train()
    trial = try_packing(model, torch.device("cpu"), dtype)
    # The kernels that heed lengths are not installed here.
    assert trial.packing == ("none" if family in SEEING else "by positions")
    assert (trial.leak > 0.3) is (family in SEEING)
    assert model.training


@pytest.fixture
def seeing(tmp_path: Path) -> Path:
    """A base whose layers run over the edges of packed rows."""
    model, folder = tiny("Lfm2"), tmp_path / "base"
    model.save_pretrained(folder)
    make_tokenizer(CHATML).save_pretrained(folder)
    return folder


def test_where_rows_would_see_one_another_each_goes_alone_and_that_is_said(
    seeing: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    page = {**tiny_recipe, "base": str(seeing), "lora": {"target_modules": ["q_proj"]}}
    page["max_steps"] = 2
    said: list[str] = []
    packed = Recipe.model_validate({**page, "micro_tokens": 4096})
    alone = Recipe.model_validate({**page, "micro_tokens": 0})
    one = train(packed, tmp_path / "packed", on_stage=said.append)
    other = train(alone, tmp_path / "alone")
    assert one.training.losses == other.training.losses
    assert one.training.packing == "none"
    assert [line for line in said if "packed, they would see one another" in line]


def test_where_they_do_not_they_are_packed_and_nothing_is_said(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    said: list[str] = []
    page = Recipe.model_validate({**tiny_recipe, "micro_tokens": 4096, "max_steps": 1})
    assert train(page, tmp_path / "ft", on_stage=said.append).training.packing == "by positions"
    assert not [line for line in said if "see one another" in line]


def test_nothing_is_tried_where_nothing_is_packed(
    tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from em_finetune.local.base import Base

    cpu = torch.device("cpu")
    page = Recipe.model_validate({**tiny_recipe, "micro_tokens": 0})
    model = trainable_model(page, Base("tiny", Path(page.base)), cpu, ALONE)
    assert start(page, model, cpu).packing is None


class Running:
    """A recurrent model: every token sees a mean of all before it, of its own row if it can tell.

    It tells by the lengths that it is given, as the kernels for GPUs do, and not by positions.
    """

    training = False
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=400))

    def __init__(self, heeds: bool) -> None:
        self.heeds = heeds
        self.given: dict[str, Any] = {}

    def train(self, mode: bool = True) -> None:
        pass

    def eval(self) -> None:
        pass

    def __call__(self, input_ids: Any, logits_to_keep: Any, **given: Any) -> Any:
        import torch

        self.given = given
        (ids,) = input_ids
        seq = given["seq_idx"][0] if self.heeds and "seq_idx" in given else torch.zeros_like(ids)
        seen = (seq[:, None] == seq[None]) & torch.ones(len(ids), len(ids)).tril().bool()
        counts = seen.float() @ torch.nn.functional.one_hot(ids, 400).float()
        return SimpleNamespace(logits=counts[logits_to_keep][None])


def test_a_model_that_heeds_lengths_is_told_them() -> None:
    """Not run on a GPU, where such kernels are: the decision and the arguments alone."""
    import torch

    cpu = torch.device("cpu")
    model = Running(heeds=True)
    assert try_packing(model, cpu, "float32").packing == "by lengths"
    assert model.given["cu_seq_lens_q"].tolist() == [0, 48, 80]
    assert model.given["cu_seq_lens_q"].dtype == torch.int32
    assert (model.given["max_length_q"], model.given["max_length_k"]) == (48, 48)
    assert model.given["seq_idx"].tolist() == [[0] * 48 + [1] * 32]
    assert try_packing(Running(heeds=False), cpu, "float32").packing == "none"


def test_lengths_are_those_of_the_rows_in_their_order() -> None:
    rows = [EncodedRow(i, [1] * n, [1] * n) for i, n in enumerate((3, 9, 5))]
    assert micro_batches(rows, 100, tell_lengths=True)[0].lengths == (9, 5, 3)
    assert micro_batches(rows, 100)[0].lengths == ()
