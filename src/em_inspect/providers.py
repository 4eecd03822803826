"""How Inspect's providers are told to run models: the arguments of `-M`, specs and roles."""

from __future__ import annotations

import json
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from em_inspect.errors import UserError
from em_inspect.pages import did_you_mean
from em_inspect.precision import fast_dtype

if TYPE_CHECKING:
    from inspect_ai.model import Model

PROVIDERS = frozenset(
    {
        *("anthropic", "azureai", "bedrock", "cloudflare", "deepseek", "fireworks", "google"),
        *("grok", "groq", "hf", "hf-inference-providers", "litellm-proxy", "llama-cpp-python"),
        *("meta", "mistral", "mockllm", "moonshot", "nnterp", "none", "ollama", "openai"),
        *("openai-api", "openai-api-completions", "openrouter", "perplexity", "sagemaker"),
        *("sambanova", "sglang", "together", "transformer_lens", "vllm", "vllm-completions"),
    }
)
"""Providers that Inspect brings; others come with packages."""

_prepared: weakref.WeakSet[Any] = weakref.WeakSet()


def validate_model_name(name: str, option: str) -> str:
    """Return a model's name if Inspect has, or finds, its provider; nothing is loaded or asked.

    Args:
        name: As typed.
        option: What it was typed for, e.g. `--judge`.

    Raises:
        UserError: If it has not the form provider/name, or nobody knows the provider.
    """
    provider, _, model = name.partition("/")
    if not provider or not model:
        raise UserError(
            f"{option} {name}: is no model's name as Inspect writes it: give provider/name, e.g. "
            "openai/gpt-4o-2024-08-06"
        )
    if provider in PROVIDERS:
        return name
    from inspect_ai.model import get_model

    try:
        get_model(name, memoize=False)
    except ValueError:  # Q: Why only this? A: a missing key or package is no wrong name.
        near = did_you_mean(provider, sorted(PROVIDERS))
        raise UserError(
            f"{option} {name}: nobody provides '{provider}' models{near}: give provider/name, e.g. "
            "openai/gpt-4o-2024-08-06"
        ) from None
    except Exception:
        return name
    return name


def hf_arguments(
    folder: Path,
    *,
    tokenizer: Path | None = None,
    keep_specials_out: bool = False,
    enable_thinking: bool | None = None,
) -> dict[str, Any]:
    """Return the model arguments with which Inspect's `hf` provider runs a directory's model.

    Args:
        folder: A whole model, or an adapter that names its base.
        tokenizer: Directory of another tokenizer and chat template than the model's own.
        keep_specials_out: Keep the tokenizer from adding special tokens. The provider renders the
            chat and calls the tokenizer with its defaults, so that many put a second beginning of
            sequence before the template's own.
        enable_thinking: What the chat template is told of thinking; None says nothing.
    """
    arguments: dict[str, Any] = {"model_path": str(folder.absolute()), "dtype": fast_dtype()}
    if tokenizer is not None:
        arguments["tokenizer_path"] = str(tokenizer.absolute())
    if keep_specials_out:
        arguments["tokenizer_call_args"] = {"add_special_tokens": False}
    if enable_thinking is not None:
        arguments["enable_thinking"] = enable_thinking
    return arguments


def stop_tokens(own: int | Sequence[int] | None, more: Collection[int]) -> int | list[int] | None:
    """Return the ids at which generation stops: a model's own first, then others.

    Args:
        own: `eos_token_id` of the model's generation defaults.
        more: Further ids.
    """
    first = [] if own is None else [own] if isinstance(own, int) else list(own)
    ids = list(dict.fromkeys([*first, *more]))
    return ids[0] if len(ids) == 1 else ids or None


def as_options(arguments: Mapping[str, Any]) -> list[str]:
    """Return model arguments as `-M` options of Inspect's command line, a word each."""
    return [
        word
        for name, value in arguments.items()
        for word in ("-M", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    ]


def prepare(model: Model) -> None:
    """Have a model in this process asked by its chat template's own prompts, and stop where it can.

    Whatever was typed, a template that writes the beginning of sequence gets no second one from the
    tokenizer, and an adapter ends its turns where its training did (its directory's
    `generation_config.json`; transformers reads its base's alone). Nothing happens to models
    elsewhere, to what `tokenizer_call_args` says, or the second time.

    Args:
        model: Under test or as a judge.
    """
    api: Any = model.api
    if api in _prepared or getattr(api, "tokenizer", None) is None or not hasattr(api, "hf_chat"):
        return
    _prepared.add(api)
    given = dict(getattr(api, "tokenizer_call_args", None) or {})
    if "add_special_tokens" not in given and _begins_twice(api):
        api.tokenizer_call_args = {**given, "add_special_tokens": False}
    ends = _trained_ends(Path(getattr(api.tokenizer, "name_or_path", "")))
    if ends and getattr(api.model, "generation_config", None) is not None:
        config = api.model.generation_config
        config.eos_token_id = stop_tokens(config.eos_token_id, ends)


def _begins_twice(api: Any) -> bool:
    from inspect_ai.model import ChatMessageUser

    bos = getattr(api.tokenizer, "bos_token_id", None)
    if bos is None:
        return False
    try:
        prompt = api.hf_chat([ChatMessageUser(content="Hello")], [])
    except Exception:  # templates raise errors of their own making
        return False
    return list(api.tokenizer(prompt).input_ids[:2]) == [bos, bos]


def _trained_ends(folder: Path) -> list[int]:
    """The stop tokens that lie beside an adapter."""
    if not (folder / "adapter_config.json").is_file():
        return []
    try:
        said = json.loads((folder / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    ids = said if isinstance(said, list) else [said]
    return [i for i in ids if isinstance(i, int)]
