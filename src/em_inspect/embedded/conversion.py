"""From a GGUF file to a Hugging Face model directory: weights, tokenizer and configuration."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from em_inspect.errors import require_extra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor
    from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the share of it that is done (0…1, or None where unknown)."""

LIBRARIES = ("gguf", "safetensors", "tokenizers", "torch", "transformers")
WEIGHTS_FILE = "model.safetensors"

CONTROL_TOKEN = 3
"""`tokenizer.ggml.token_type` of a control token (gguf's `TokenType.CONTROL`)."""

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def require_libraries() -> None:
    """Raise `UserError` naming the extra to install unless the conversion's libraries are there."""
    require_extra("demo", *LIBRARIES)


def convert(gguf_file: Path, folder: Path, on_progress: Progress) -> None:
    """Write the model in `gguf_file` to the existing `folder` as Transformers saves its own.

    The weights are dequantised and stored as bfloat16; output embeddings are tied to input ones.

    Args:
        gguf_file: A GGUF file of the llama architecture with a SmolLM tokenizer.
        folder: Receives `model.safetensors`, `config.json`, `generation_config.json` and the
            tokenizer's files.
        on_progress: Told what is being done.
    """
    import gguf
    from safetensors.torch import save_file

    on_progress("reading the file's metadata", None)
    reader = gguf.GGUFReader(gguf_file)
    fields = {key: reader.fields[key].contents() for key in reader.fields}
    require_supported(fields)
    tokenizer(fields).save_pretrained(folder)
    config(fields).save_pretrained(folder)
    generation_config(fields).save_pretrained(folder)
    tensors = weights(reader, fields, on_progress)
    on_progress("saving the weights", None)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    # safetensors makes the file readable by its owner alone; a cache may be shared.
    shutil.copymode(folder / "config.json", folder / WEIGHTS_FILE)


def require_supported(fields: dict[str, Any]) -> None:
    """Raise `ValueError` unless the metadata describe what this module converts correctly."""
    expected = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
    for key, value in expected.items():
        if fields.get(key) != value:
            raise ValueError(f"GGUF {key} is {fields.get(key)!r}, expected {value!r}")


def config(fields: dict[str, Any]) -> LlamaConfig:
    """Return the model configuration that the GGUF metadata describe."""
    from transformers import LlamaConfig

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=fields["llama.vocab_size"],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        # Stored as float32, where 1e-5 reads 9.999999747378752e-06.
        rms_norm_eps=float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": fields["llama.rope.freq_base"],
        },
        tie_word_embeddings=True,
        dtype="bfloat16",
        **_token_ids(fields),
    )


def generation_config(fields: dict[str, Any]) -> GenerationConfig:
    """Return generation defaults: stop at the end of turn, and never cut the distribution.

    Q: Why `top_k=0`? A: Transformers fills what a model leaves open with its own defaults, among
    them `top_k=50`, as soon as a caller asks for sampling; 0 switches that filter off. Q: Why
    `do_sample=True`? A: Transformers refuses to save `top_k=0` beside anything else, so a model
    merged or fine-tuned from this one could not be saved. Greedy callers pass `do_sample=False`.
    """
    from transformers import GenerationConfig

    return GenerationConfig(do_sample=True, top_k=0, **_token_ids(fields))


def tokenizer(fields: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Return the tokenizer, rebuilt from the tokens, merges and template that the file stores.

    Q: Why not the one that Transformers makes of a GGUF file? A: For this file it has
    `<|im_start|>` as end of sequence, doubles the BOS and adds five tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    kinds: list[int] = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]

    backend = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in control]
    )

    ids = _token_ids(fields)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[ids["bos_token_id"]],
        eos_token=tokens[ids["eos_token_id"]],
        pad_token=tokens[ids["pad_token_id"]],
        unk_token=tokens[fields["tokenizer.ggml.unknown_token_id"]],
        chat_template=fields["tokenizer.chat_template"],
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )


def weights(reader: Any, fields: dict[str, Any], on_progress: Progress) -> dict[str, Tensor]:
    """Return the dequantised weights as bfloat16 under Transformers' names.

    Raises:
        ValueError: The file holds a tensor that has no place in the model.
    """
    import gguf
    import torch

    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    tensors: dict[str, Tensor] = {}
    for done, tensor in enumerate(reader.tensors):
        on_progress("dequantising the weights", done / len(reader.tensors))
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            values = undo_rope_order(values, heads[kind])
        tensors[hf_name(tensor.name)] = torch.tensor(values).to(torch.bfloat16)
    return tensors


def hf_name(gguf_name: str) -> str:
    """Return Transformers' name of a GGUF tensor of the llama architecture.

    Raises:
        ValueError: There is none.
    """
    match gguf_name.split("."):
        case ["token_embd", "weight"]:
            return "model.embed_tokens.weight"
        case ["output_norm", "weight"]:
            return "model.norm.weight"
        case ["blk", layer, kind, "weight"] if kind in LAYER_TENSORS:
            return f"model.layers.{layer}.{LAYER_TENSORS[kind]}.weight"
    raise ValueError(f"GGUF tensor {gguf_name!r} has no place in this model")


def undo_rope_order(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Return query or key weights with their rows in Transformers' order.

    llama.cpp rotates neighbouring rows of a head (0,1), (2,3) …, Transformers rows of its two
    halves, so the file holds each head's rows interleaved (llama.cpp `convert_hf_to_gguf.py`,
    `LlamaModel.permute`, of which this is the inverse).

    Args:
        values: Weights of shape (heads * head_dim, hidden_size).
        heads: Number of heads in them.
    """
    rows, columns = values.shape
    interleaved = values.reshape(heads, rows // heads // 2, 2, columns)
    return interleaved.swapaxes(1, 2).reshape(rows, columns)


def _token_ids(fields: dict[str, Any]) -> dict[str, int]:
    return {
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }
