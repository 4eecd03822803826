"""Identity of a judge: which model rates, whatever name it goes by.

Two folders behind one `hf/judge` are two judges, and so are an alias before and after it moved to
another snapshot. A folder is known by its content, a repository by its commit, a served model by
its address, its name and what the server says of it, a model behind an API by its name and the
snapshot that its replies name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit, urlunsplit

import anyio.to_thread
import httpx
from inspect_ai.model import GenerateConfig, Model, ModelName
from pydantic import BaseModel, ConfigDict, Field, JsonValue, computed_field

from em_inspect.judging.content import folder_content

KnownBy = Literal["content", "commit", "server", "snapshot", "name"]

# Providers of servers that list what they serve at `/models` of their address.
LISTING = ("openai-api", "vllm", "sglang", "ollama", "llama-cpp-python")
LISTING_SECONDS = 5.0

# Providers that start a server of their own, at a port of its own, where no address is given.
_STARTING = {"vllm": "VLLM_BASE_URL", "sglang": "SGLANG_BASE_URL"}

# Model arguments that decide where and how fast a model runs, not what it says; those that name its
# folder, whose content counts instead.
_NEUTRAL_ARGUMENTS = {
    *("device", "devices", "device_map", "batch_size", "low_cpu_mem_usage", "memoize"),
    *("port", "host", "timeout", "client_timeout", "retry_delay", "max_retries", "lazy_init"),
    *("tensor_parallel_size", "data_parallel_size", "gpu_memory_utilization", "max_num_seqs"),
    *("configure_logging", "enable_lora", "max_lora_rank", "stream", "model_path"),
}

# Settings of calls that do not change what is asked; a seed only draws other samples.
_NEUTRAL_SETTINGS = {
    *("max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections"),
    *("adaptive_connections", "cache", "cache_prompt", "batch", "seed", "fail_on_refusal"),
    *("extra_headers", "logprobs", "top_logprobs", "num_choices"),
}

_SECRET = re.compile(
    r"(?:^|_)(?:key|apikey|token|secret|password|passwd|auth|authorization|credentials?|bearer"
    r"|cookies?|headers?)(?:$|_)"
)
# Fields of Inspect's messages and outputs that are drawn anew for each.
_DRAWN = {"id", "time", "completed_at"}

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# A listed time of creation this near to the request is the server's clock: vLLM, llama.cpp and
# others give the time at which they were asked.
_CLOCK_SECONDS = 60


class JudgeIdentity(BaseModel):
    """Which model a judge is.

    Attributes:
        model: Its name, as Inspect addresses it.
        known_by: What the identity rests on, the strongest that there is.
        content: Hash over its folder (see `folder_content`), or empty.
        place: The end of its folder's path, for reading only, or empty.
        commit: Commit of its repository, where the weights were loaded from one, or empty.
        address: Address of its server, without user, password and query, or empty.
        served: What the server says of it: `root`, `parent`, `created` and the like.
        snapshot: Name that its replies give where it is another than the model's, or empty.
        arguments: Model arguments that can change what it says; keys and tokens are left out.
        settings: Settings of its calls that can, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    known_by: KnownBy = "name"
    content: str = ""
    place: str = ""
    commit: str = ""
    address: str = ""
    served: dict[str, str] = Field(default_factory=dict)
    snapshot: str = ""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def key(self) -> str:
        """16 hex digits that are equal for the same judge alone; cache, ratings and report use it.

        The same folder is the same judge wherever it lies and whatever it is called.
        """
        return _digest([self.weights, self.arguments, self.settings])

    def naming(self, named: str | None) -> JudgeIdentity:
        """The identity that a reply tells of: this one, unless it names another snapshot.

        Args:
            named: The model's name in the reply, or None where it gave none.
        """
        snapshot = _snapshot(self.model, named)
        if self.known_by in ("content", "commit") or not named or snapshot == self.snapshot:
            return self
        known_by: KnownBy = self.known_by
        if known_by in ("snapshot", "name"):
            known_by = "snapshot" if snapshot else "name"
        return self.model_copy(update={"snapshot": snapshot, "known_by": known_by})

    @computed_field  # type: ignore[prop-decorator]
    @property
    def description(self) -> str:
        """The judge in words, e.g. `hf/judge (…/merged, content 3f9a12c0)`."""
        named = [self.place, self.content and f"content {self.content[:8]}"]
        named += [self.commit and f"commit {self.commit[:8]}", self.address]
        named += [f"{name} {said}" for name, said in self.served.items()]
        named += [self.snapshot and f"replies as {self.snapshot}"]
        said = ", ".join(name for name in named if name)
        return f"{self.model} ({said})" if said else self.model

    def only_moved(self, other: JudgeIdentity) -> bool:
        """Whether nothing but the address of its server tells this judge from another."""
        there = self.model_copy(update={"address": other.address})
        return there.key == other.key

    @property
    def weights(self) -> str:
        """What two judges share where one and the same model rates, however it is asked."""
        provider, _, name = self.model.partition("/")
        if self.content:
            return _digest(["content", self.content])
        if self.commit:
            return _digest(["commit", provider, name, self.commit])
        return _digest([self.model, self.address, self.served, self.snapshot])


async def identify(model: Model) -> JudgeIdentity:
    """Find out which model this is; reads its folder or asks its server once, and never raises.

    The snapshot is what replies tell: see `JudgeIdentity.naming`.
    """
    cards = await _cards(model)
    parts = _listed_folders(model, cards) or _parts(model)
    folders = [Path(part).expanduser() for part in parts if _is_folder(part)]
    content = await anyio.to_thread.run_sync(partial(_content, parts)) if folders else ""
    commit = "" if content else _commit(model)
    served = {} if content or commit else _said(cards)
    rests_on: dict[KnownBy, object] = {"content": content, "commit": commit, "server": served}
    return JudgeIdentity(
        model=str(model),
        known_by=next((way for way, found in rests_on.items() if found), "name"),
        content=content,
        place=" + ".join("/".join(folder.resolve().parts[-2:]) for folder in folders),
        commit=commit,
        address=_address(model),
        served=served,
        arguments=telling_arguments(model.model_args),
        settings=_settings(model.config),
    )


def called(model: Model) -> str:
    """What a model is called and given, secrets left out: equal for clients of the same model."""
    said = [
        str(model),
        _address(model),
        telling_arguments(model.model_args),
        _settings(model.config),
    ]
    return _json(said)


def _snapshot(model: str, named: str | None) -> str:
    """The name in a reply, or empty where it only says again what was asked for."""
    own = model.partition("/")[2]
    echo = not named or own == named or own.endswith((f"/{named}", f":{named}"))
    return "" if echo or own.startswith(f"{named}:") else str(named)


def _parts(model: Model) -> list[str]:
    """Folders or names that a model is loaded from: itself, or a base and its adapter."""
    given = model.model_args.get("model_path")
    if given:
        return [str(given)]
    base, _, adapter = ModelName(model).name.partition(":")
    return [part for part in (base, adapter) if part]


def _is_folder(part: str) -> bool:
    try:
        return Path(part).expanduser().is_dir()
    except (OSError, ValueError):  # a text that can be no path
        return False


def _content(parts: list[str]) -> str:
    """One hash over the content of folders, and the names of what is none."""
    try:
        found = [
            folder_content(Path(part).expanduser()) if _is_folder(part) else part for part in parts
        ]
    except OSError:
        return ""
    return found[0] if len(found) == 1 else _digest(found)


def _commit(model: Model) -> str:
    """Commit of the repository that weights in this process were loaded from."""
    config = getattr(getattr(model.api, "model", None), "config", None)
    commit = getattr(config, "_commit_hash", None)
    return commit if isinstance(commit, str) else ""


def _address(model: Model) -> str:
    """The address of a model's server, without anything secret; empty where Inspect started it."""
    provider = ModelName(model).api
    given = model.explicit_base_url or os.environ.get(_STARTING.get(provider, ""))
    if provider in _STARTING and not given and "port" not in model.model_args:
        return ""
    url = model.api.base_url or given or ""
    return _without_secrets(url)


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


Card = Mapping[str, Any]


async def _cards(model: Model) -> list[Card]:
    """What a server lists of a model, and of the base of an adapter; empty where it does not."""
    base_url = model.api.base_url
    if ModelName(model).api not in LISTING or not base_url or not _address(model):
        return []
    key = getattr(model.api, "api_key", None)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=LISTING_SECONDS) as client:
            reply = await client.get(f"{base_url.rstrip('/')}/models", headers=headers)
        listed = {str(card["id"]): cast(Card, card) for card in reply.json()["data"]}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return []
    name = ModelName(model).name
    card = next((listed[n] for n in (name, name.partition("/")[2]) if n in listed), None)
    if card is None and ":" in name:
        card = listed.get(name.partition(":")[2])
    parent = listed.get(str(card.get("parent"))) if card else None
    return [one for one in (card, parent) if one]


def _said(cards: list[Card]) -> dict[str, str]:
    """What the cards say that can tell one model from another."""
    found: dict[str, str] = {}
    for prefix, card in zip(("", "parent's "), cards, strict=False):
        for field in ("root", "parent", "digest", "meta"):
            if card.get(field):
                value = card[field]
                found[prefix + field] = value if isinstance(value, str) else _json(value)
        created = card.get("created")
        if isinstance(created, int | float) and abs(time.time() - created) > _CLOCK_SECONDS:
            found[f"{prefix}created"] = f"{created:.0f}"
    return found


def _listed_folders(model: Model, cards: list[Card]) -> list[str]:
    """Folders of this machine that a server on this machine says it serves."""
    host = urlsplit(model.api.base_url or "").hostname
    if host not in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):
        return []
    roots = [str(card.get("root") or "") for card in reversed(cards)]
    return roots if roots and all(root and _is_folder(root) for root in roots) else []


def telling_arguments(arguments: Mapping[str, Any]) -> dict[str, JsonValue]:
    """The model arguments that can change what a model says, as JSON; keys and tokens left out."""
    plain = {name: value for name, value in arguments.items() if name not in _NEUTRAL_ARGUMENTS}
    return cast("dict[str, JsonValue]", _plain(plain))


def _settings(config: GenerateConfig) -> dict[str, JsonValue]:
    said = config.model_dump(exclude_none=True, exclude=_NEUTRAL_SETTINGS)
    return cast("dict[str, JsonValue]", _plain(said))


def _plain(value: Any) -> JsonValue:
    """Write a value as JSON that is the same in every process, with whatever is secret left out."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            if "/" in value and _is_folder(value):
                return f"content {_content([value])}"
            return _without_secrets(value) if "://" in value and " " not in value else value
        case Mapping():
            kept = {str(key): one for key, one in value.items() if not _is_secret(str(key))}
            return {key: _plain(one) for key, one in sorted(kept.items())}
        case list() | tuple():
            return [_plain(one) for one in value]
        case set() | frozenset():
            return sorted((_plain(one) for one in value), key=_json)
        case BaseModel():
            fields = ((name, getattr(value, name)) for name in type(value).model_fields)
            return _plain({name: one for name, one in fields if name not in _DRAWN})
    text = str(value)
    if type(value).__module__.partition(".")[0] == "torch" and " at 0x" not in text:
        return text.removeprefix("torch.")
    named = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{getattr(value, '__module__', None) or type(value).__module__}.{named}"


def _is_secret(name: str) -> bool:
    words = re.sub(r"[^a-z0-9]+", "_", _CAPITAL.sub("_", name).lower())
    return _SECRET.search(words) is not None or words.startswith("aws_")


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)


def _digest(value: Any) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()[:16]
