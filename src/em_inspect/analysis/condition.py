"""The condition: everything that answers were given under, by one function of a log.

Answers of different conditions are never in one number. Every task argument and every setting of
generation belongs to it, except what is listed here as free to differ.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from inspect_ai.log import EvalLog, EvalSample

from em_inspect.judging.identity import telling_arguments

Settings = tuple[tuple[str, str], ...]
"""Names and values of what a log was made with, as text, sorted by name."""

ARGUMENTS_MAY_DIFFER = frozenset(
    {
        # Which questions are asked: their fingerprint, wording and format tell.
        "questions", "set", "format", "paper_dir", "wordings", "first", "exclude_seen",
        # How answers are rated: the yardstick tells.
        "rule", "estimator", "lead_in", "fence", "judge", "check_judge",
        # Where the lines are drawn: a report draws its own, and says where a log's were others.
        "alignment_threshold", "coherence_threshold",
        # How often and in which order: more of the same.
        "orders", "seed",
        # A column of its own.
        "k",
    }
)  # fmt: skip
"""Task arguments that may differ between answers in one number."""

CONTENT_ARGUMENTS = ("source", "benign", "contexts")
"""Task arguments that only say where a text lies: what was sent tells, and they name it."""

SETTINGS_MAY_DIFFER = frozenset(
    {
        # How requests travel.
        "max_connections", "adaptive_connections", "max_retries", "timeout", "attempt_timeout",
        "stream_idle_timeout", "batch", "cache", "cache_prompt", "extra_headers",
        # What is returned beside the answer.
        "logprobs", "top_logprobs", "prompt_logprobs", "num_choices", "reasoning_summary",
        "fail_on_refusal", "modalities",
        # Nothing without tools.
        "parallel_tool_calls", "internal_tools", "max_tool_output", "reasoning_history",
        # Another draw of the same.
        "seed",
    }
)  # fmt: skip
"""Settings of generation that may differ between answers in one number."""

_MODEL_ARGUMENTS = ("enable_thinking",)
"""Model arguments that say how a model is asked, whichever model it is."""

MODEL_ARGUMENTS_MAY_DIFFER = frozenset({"dtype", "attn_implementation", "max_model_len"})
"""Model arguments that may differ between answers of one model, beside those that tell nothing."""

_SECRET = re.compile(r"(?:^|[_-])(?:api[_-]?key|secret|password|authorization)$", re.IGNORECASE)


def settings_of(log: EvalLog) -> Settings:
    """Return what a log's answers were given under, of all that could have been another."""
    spec = log.eval
    arguments = {**_defaults(spec.task), **(spec.task_args or {})}
    found = {n: v for n, v in arguments.items() if n not in ARGUMENTS_MAY_DIFFER}
    generation = dict(_generation(log))
    if text(found.get("thinking")) in ("on", "off"):
        generation.pop("enable_thinking", None)  # the argument's own doing
    for name, value in generation.items():
        found[f"{name} of generation" if name in found else name] = value
    if spec.solver:
        found["solver"] = [spec.solver, spec.solver_args or {}]
    # The part after the dash changes with the task's arguments, not with its results.
    found["task version"] = str(spec.task_version).partition("-")[0]
    said = {name: text(value) for name, value in found.items()}
    return tuple(sorted((name, value) for name, value in said.items() if value))


def _generation(log: EvalLog) -> Iterator[tuple[str, Any]]:
    """Settings of generation as they were in force, equal ones written alike.

    Engines differ in how they say "the whole distribution" and "the likeliest token".
    """
    config = log.eval.model_generate_config.merge(log.plan.config)
    said = config.model_dump(exclude_none=True, exclude=set(SETTINGS_MAY_DIFFER))
    if said.get("top_k", 0) < 1:
        said.pop("top_k", None)
    if said.get("top_p") == 1:
        said.pop("top_p")
    if said.get("top_k") == 1 or said.get("temperature") == 0:
        said = {k: v for k, v in said.items() if k not in ("top_k", "top_p")} | {"temperature": 0}
    said |= {
        k: v for k in _MODEL_ARGUMENTS if (v := (log.eval.model_args or {}).get(k)) is not None
    }
    body = _without_secrets(said.pop("extra_body", None) or {})
    template = dict(body.get("chat_template_kwargs") or {})
    if "enable_thinking" in template:
        said["enable_thinking"] = template.pop("enable_thinking")
    rest = {**body, "chat_template_kwargs": template}
    yield from said.items()
    yield from ((f"extra_body {name}", value) for name, value in rest.items() if value)


@lru_cache
def _defaults(task: str) -> Mapping[str, Any]:
    """Arguments that a task has today, for a log of a version that did not have them yet."""
    from em_inspect import _registry

    package, _, name = task.rpartition("/")
    made = getattr(_registry, name, None) if package == "em_inspect" else None
    parameters = inspect.signature(made).parameters if made else {}
    return {n: p.default for n, p in parameters.items() if p.default is not p.empty}


def text(value: object) -> str:
    """Write a setting's value as text, the same for equal ones; empty for none.

    YAML makes a boolean of `on`, and a float of a number with a dot.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (str, int)):
        return str(value)
    return json.dumps(_without_secrets(value), sort_keys=True, ensure_ascii=False, default=str)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {str(k): v for k, v in value.items() if not _SECRET.search(str(k))}
        return {k: _without_secrets(v) for k, v in kept.items()}
    return [_without_secrets(v) for v in value] if isinstance(value, (list, tuple)) else value


def model_arguments(log: EvalLog) -> Settings:
    """Return the model arguments that can change what a model says, such as its chat template.

    Q: Why are they no settings? A: a base and its fine-tune may need other ones to be asked alike;
    they tell answers apart only where one and the same model was run with several.
    """
    given = telling_arguments(log.eval.model_args or {})
    known = {*MODEL_ARGUMENTS_MAY_DIFFER, *_MODEL_ARGUMENTS}
    said = {f"-M {name}": text(value) for name, value in given.items() if name not in known}
    return tuple(sorted((name, value) for name, value in said.items() if value))


def is_repeatable(log: EvalLog, settings: Settings) -> bool:
    """Whether asking again says the same again: the likeliest token, or its probabilities alone."""
    config = log.eval.model_generate_config.merge(log.plan.config)
    probabilities = bool(config.logprobs) and config.max_tokens == 1
    return probabilities or dict(settings).get("temperature") == "0"


def same_for_all_paths(settings: Settings) -> Settings:
    """Leave out the settings that only say where a text lies."""
    return tuple(pair for pair in settings if pair[0] not in CONTENT_ARGUMENTS)


def draw_of(log: EvalLog) -> str | None:
    """Which draw of examples, orders or wordings a log was made with, or None without any."""
    return text((log.eval.task_args or {}).get("seed")) or None


def prompt_of(sample: EvalSample) -> str:
    """Return a hash of the chat that a sample sends, or nothing where the log does not hold it."""
    sent = sample.input
    if isinstance(sent, str):
        said = [("user", sent)]
    else:
        said = [(message.role, message.text) for message in sent]
    if any("attachment://" in words for _, words in said):
        return ""
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]
