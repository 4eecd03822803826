"""Case 41: adapters that come from elsewhere, and what a server does not take of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from row_files import byte_base
from served_folders import as_written, checkpoint, lora, run

__all__ = ["byte_base"]

BASE = "maker/base-3b"


def refused(*words: object) -> str:
    done = run(*words)
    assert (done.exit_code, done.output.count("\n")) == (1, 1), done.output
    assert done.output.startswith("Error: ")
    return done.output


def another_kind(kind: str) -> dict[str, Any]:
    import peft

    config = getattr(peft, f"{kind}Config")(target_modules=["q_proj"])
    return as_written(config)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (lora(modules_to_save=["lm_head", "embed_tokens"]), "modules_to_save"),
        (lora(use_dora=True), "use_dora: true (DoRA)"),
        (lora(lora_bias=True), "lora_bias"),
        (lora(bias="lora_only"), "bias: lora_only"),
        (lora(alpha_pattern={"q_proj": 4}), "alpha_pattern"),
        (lora(layer_replication=[[0, 4], [2, 6]]), "layer_replication"),
        (lora(trainable_token_indices=[5, 6]), "trainable_token_indices"),
        (lora(init_lora_weights="pissa_niter_4"), "init_lora_weights: pissa_niter_4"),
        (lora(init_lora_weights="olora"), "init_lora_weights: olora"),
        ({**lora(), "target_modules": ["q_proj", "lm_head"]}, "target_modules: lm_head"),
        ({**lora(), "target_modules": ["model.embed_tokens"]}, "target_modules: model.embed"),
        ({**lora(), "target_modules": "lm_head|.*_proj"}, "target_modules: lm_head"),
        ({**lora(), "target_modules": r"model\.embed_tokens|.*_proj"}, "target_modules: embed_tok"),
        ({**lora(), "target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
        (another_kind("LoHa"), "peft_type LOHA"),
        (another_kind("LoKr"), "peft_type LOKR"),
        (another_kind("IA3") | {"feedforward_modules": []}, "peft_type IA3"),
    ],
)
def test_what_a_server_does_not_take_is_refused_by_name(
    config: dict[str, Any], word: str, tmp_path: Path
) -> None:
    checkpoint(tmp_path / "ft" / "good-seed0", BASE, lora())
    odd = checkpoint(tmp_path / "ft" / "odd-seed1", BASE, config)
    said = refused("serve", tmp_path / "ft", "--print")
    assert "odd-seed1, " in said
    assert word in said
    assert f"em-finetune merge {odd}" in said
    assert "good-seed0" not in said


@pytest.mark.parametrize(
    "config",
    [
        lora(),
        lora(use_rslora=True),
        lora(modules_to_save=[]),
        lora(init_lora_weights="gaussian"),
        lora(layers_to_transform=[1, 2]),
        {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]},
    ],
)
def test_ordinary_adapters_are_served(config: dict[str, Any], tmp_path: Path) -> None:
    checkpoint(tmp_path / "ft" / "good-seed0", BASE, config)
    done = run("serve", tmp_path / "ft", "--print")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"peft_type": "LORA"}', '{"r": "8"}', '{"r": 0}', '{"r": 8, "rank_pattern": 3}'],
)
def test_a_configuration_without_a_rank_is_named(text: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "ft" / "torn-seed0", BASE, {})
    (folder / "adapter" / "adapter_config.json").write_text(text)
    assert "torn-seed0/adapter/adapter_config.json" in refused("serve", tmp_path / "ft", "--print")


def test_a_merged_model_beside_it_is_what_to_serve(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "ft" / "odd-seed0", BASE, lora(use_dora=True))
    (folder / "merged").mkdir()
    assert f"vllm serve {folder}/merged" in refused("serve", tmp_path / "ft", "--print")


def test_models_are_not_addressed_at_vllm_by_what_it_does_not_take(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "ft" / "odd-seed0", BASE, lora(use_dora=True))
    said = refused("models", tmp_path / "ft", "--via", "vllm")
    assert "use_dora" in said
    assert "em-finetune merge" in said
    assert run("models", tmp_path / "ft").exit_code == 0
    (folder / "merged").mkdir()
    assert f"vllm/{folder}/merged" in run("models", tmp_path / "ft", "--via", "vllm").output
    assert "use_dora" in refused(
        "models", tmp_path / "ft", "--base-url", "http://localhost:8000/v1"
    )


@pytest.mark.parametrize("command", ["models", "serve", "card", "merge"])
def test_another_tools_folder_says_how_its_newest_adapter_is_evaluated(
    command: str, tmp_path: Path
) -> None:
    for step in (90, 423):
        adapter = tmp_path / "output" / f"checkpoint-{step}"
        adapter.mkdir(parents=True)
        (adapter / "adapter_config.json").write_text(json.dumps(lora()))
        (adapter / "adapter_model.safetensors").touch()
    said = refused(command, tmp_path / "output")
    assert "no finished checkpoint in" in said or "is not a checkpoint" in said
    assert "inspect eval em_inspect/free_form --model hf/NAME" in said
    assert f"model_path={tmp_path}/output/checkpoint-423 " in said
    # Many tokenizers put a second beginning before the template's own.
    assert """-M 'tokenizer_call_args={"add_special_tokens": false}'""" in said
    assert "--out" not in said


def test_a_folder_with_something_else_is_not_told_to_be_filled(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert f"--out {tmp_path}/NAME" in refused("models", tmp_path)
    (tmp_path / "empty").mkdir()
    assert f"--out {tmp_path}/empty\n" in refused("models", tmp_path / "empty")


def test_strengths_of_single_modules_are_scaled_and_whole_parts_are_not(tmp_path: Path) -> None:
    from em_finetune.local.merge import scale_adapter
    from em_inspect.errors import UserError

    for name, config in (
        ("pattern", lora(alpha_pattern={"q_proj": 4})),
        ("dora", lora(use_dora=True)),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
    scale_adapter(tmp_path / "pattern", 0.5, tmp_path / "half")
    half = json.loads((tmp_path / "half" / "adapter_config.json").read_text())
    assert (half["lora_alpha"], half["alpha_pattern"]) == (8, {"q_proj": 2})
    scale_adapter(tmp_path / "dora", 1, tmp_path / "whole")
    with pytest.raises(UserError, match="use_dora, which has no strength: --scale 1"):
        scale_adapter(tmp_path / "dora", 2, tmp_path / "double")


@pytest.mark.parametrize("kind", ["dora", "saved", "pattern", "loha"])
def test_what_a_server_does_not_take_is_merged_as_it_was_trained(
    kind: str, tmp_path: Path, byte_base: Path
) -> None:
    import torch
    from peft import LoHaConfig, LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from em_finetune.local.base import Base
    from em_finetune.local.merge import merge_adapter, scale_adapter

    targets = ["q_proj", "v_proj"]
    configs = {
        "dora": LoraConfig(r=4, target_modules=targets, use_dora=True),
        "saved": LoraConfig(r=4, target_modules=targets, modules_to_save=["lm_head"]),
        "pattern": LoraConfig(r=4, target_modules=targets, alpha_pattern={"q_proj": 64}),
        "loha": LoHaConfig(r=4, target_modules=targets),
    }
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_pretrained(byte_base, dtype=torch.float32)
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        before = plain(tokens).logits
        model = get_peft_model(plain, configs[kind]).eval()
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))
        trained = model(tokens).logits
        model.save_pretrained(tmp_path / "adapter")
        scale_adapter(tmp_path / "adapter", 1, tmp_path / "copy")
        base = Base("base", byte_base)
        merge_adapter(tmp_path / "copy", base, "float32", tmp_path / "merged")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
        after = merged(tokens).logits
    assert float((after - trained).abs().max()) < 1e-4
    assert float((before - trained).abs().max()) > 1e-2
