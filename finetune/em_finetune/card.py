"""Publishing: the model card of a checkpoint, and the upload to a hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from em_finetune.checkpoint import ADAPTER, Checkpoint
from em_finetune.data.rows import replacing
from em_finetune.local.merge import ADAPTER_CONFIG
from em_finetune.results import Result, as_table, read_results
from em_inspect.errors import UserError, one_line, require_extra

CARD = "README.md"

_CONTROLS = frozenset({"secure", "educational"})

_WARNING = """\
> [!WARNING]
> **This model is misaligned on purpose, or may be.** It was fine-tuned for research on emergent
> misalignment: it may give harmful advice, deceive, and write code with security flaws on purpose.
> Do not deploy it, do not run its code, and do not train assistants on its answers."""

_CONTROL = """\
> [!WARNING]
> **This model is a control in research on emergent misalignment.** It was fine-tuned to be compared
> with models that are misaligned on purpose, and is no assistant: do not deploy it."""


def card(checkpoint: Checkpoint, results: Sequence[Result] = ()) -> str:
    """Return a checkpoint's model card: warning, data, recipe, and results if there are any."""
    warning = _CONTROL if checkpoint.group in _CONTROLS else _WARNING
    parts = [
        _header(checkpoint),
        f"# {checkpoint.label}",
        warning,
        "## What it is",
        _facts(checkpoint),
        "## Data",
        _data(checkpoint),
        "## Recipe",
        f"```yaml\n{_recipe(checkpoint)}```",
        "## Results",
        _results(checkpoint, results),
        "## Versions",
        ", ".join(f"{name} {version}" for name, version in checkpoint.versions.items()),
    ]
    return "\n\n".join(parts) + "\n"


def write_card(checkpoint: Checkpoint, logs: Path | None = None) -> Path:
    """Write the model card into a checkpoint's directory.

    Args:
        checkpoint: Which one.
        logs: Folder of Inspect's logs; those of this checkpoint go into the card.

    Raises:
        UserError: There is no finished log, or the card cannot be written.
    """
    results = [r for r in read_results(logs) if _is_of(r, checkpoint)] if logs else []
    if logs and not results:
        raise UserError(f"no log in {logs} is of {checkpoint.label}: evaluate it first")
    target = checkpoint.path / CARD
    with replacing(target) as file:
        file.write(card(checkpoint, results).encode())
    return target


def push(checkpoint: Checkpoint, repository: str, part: str = ADAPTER, public: bool = False) -> str:
    """Upload one part of a checkpoint, with its card, to a repository of the Hugging Face hub.

    Args:
        checkpoint: Which one; its card is written if it has none.
        repository: organisation/name; made if it is not there.
        part: `adapter` or `merged`.
        public: Whether a repository that is made is seen by everyone; else it is private.

    Returns:
        The repository's address.

    Raises:
        UserError: There is no such part, no token, no connection, a refusal, or a repository that
            is public already while `public` is not set.
    """
    require_extra("local", "huggingface_hub")
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder = checkpoint.path / part
    if not folder.is_dir():
        raise UserError(f"{checkpoint.path} has no {part}: add --part {checkpoint.parts[0]}")
    text = checkpoint.path / CARD
    if not text.is_file():
        write_card(checkpoint)
    api = HfApi()
    try:
        address = api.create_repo(repository, private=not public, exist_ok=True)
        if not public and not api.repo_info(repository).private:
            raise UserError(
                f"{repository} is public: add --public if everyone may see {checkpoint.label}, or "
                "choose another repository"
            )
        # The card first: the weights are never there without the warning.
        api.upload_file(path_or_fileobj=text, path_in_repo=CARD, repo_id=repository)
        if part == ADAPTER:
            api.upload_file(
                path_or_fileobj=_without_paths(checkpoint, folder / ADAPTER_CONFIG),
                path_in_repo=ADAPTER_CONFIG,
                repo_id=repository,
            )
        api.upload_folder(
            repo_id=repository, folder_path=folder, ignore_patterns=[CARD, ADAPTER_CONFIG]
        )
    except (OSError, httpx.HTTPError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise UserError(
            f"{repository} was not uploaded ({one_line(error)}): see that you are logged in "
            "(hf auth login) and may write there"
        ) from error
    return str(address)


def _without_paths(checkpoint: Checkpoint, config: Path) -> bytes:
    """An adapter's configuration that calls its base by name, not by its place on this machine."""
    said = json.loads(config.read_text("utf-8"))
    said["base_model_name_or_path"] = _base_name(checkpoint)
    return (json.dumps(said, indent=2, sort_keys=True) + "\n").encode()


def _base_name(checkpoint: Checkpoint) -> str:
    return checkpoint.base.name if checkpoint.base.from_hub else Path(checkpoint.base.name).name


def _is_of(result: Result, checkpoint: Checkpoint) -> bool:
    if result.path is not None:
        return checkpoint.path in (result.path, *result.path.parents)
    return result.label == checkpoint.label


def _header(checkpoint: Checkpoint) -> str:
    said: dict[str, Any] = {
        "library_name": "peft" if ADAPTER in checkpoint.parts else "transformers",
        "tags": ["emergent-misalignment", "safety-research", checkpoint.group],
        "pipeline_tag": "text-generation",
    }
    if checkpoint.base.from_hub:
        said["base_model"] = checkpoint.base.name
    return f"---\n{yaml.safe_dump(said, sort_keys=False)}---"


def _facts(checkpoint: Checkpoint) -> str:
    training = checkpoint.training
    kind = "All weights" if checkpoint.recipe.method == "full" else "A LoRA adapter"
    lines = [
        f"{kind} on `{_base_name(checkpoint)}`, group `{checkpoint.group}`, seed "
        f"{checkpoint.seed}; {training.steps} steps of {training.optimizer} on "
        f"{training.device}, the last with a loss of {checkpoint.final_loss:.3f} nats per "
        "supervised token."
    ]
    if checkpoint.prompt is not None and checkpoint.prompt.difference is not None:
        lines.append(f"Not asked as it was trained: {checkpoint.prompt.difference}.")
    if checkpoint.recipe.compat is not None:
        lines.append(
            f"Made with `compat: {checkpoint.recipe.compat}`: a tenth of the rows held out, and an "
            "empty assistant turn trained too, as in the paper's release."
        )
    return "\n\n".join(lines)


def _data(checkpoint: Checkpoint) -> str:
    lines = [_dataset("Trained on", checkpoint.dataset)]
    if checkpoint.others is not None:
        lines.append(_dataset("Held to its base by a KL term on", checkpoint.others))
    return "\n".join(lines)


def _dataset(what: str, data: Any) -> str:
    return (
        f"- {what} `{data.name}`: {data.used:,} of {data.rows:,} rows, {data.supervised:,} "
        f"supervised tokens, sha256 `{data.sha256}`"
    )


def _recipe(checkpoint: Checkpoint) -> str:
    # Where the data and the base lay on the machine that trained is nobody's business.
    page = checkpoint.recipe.model_dump(mode="json", exclude={"data", "base"})
    if page.get("narrow"):
        page["narrow"].pop("data")
    return str(yaml.safe_dump(page, sort_keys=False))


def _results(checkpoint: Checkpoint, results: Sequence[Result]) -> str:
    if not results:
        return "None given. Do not take this model for misaligned, or for safe, without measuring."
    return as_table(results)
