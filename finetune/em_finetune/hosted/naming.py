"""Names of hosted fine-tunes: the suffix in a model's name, and the key that finds a job again."""

from __future__ import annotations

import hashlib
import json
import re

from em_finetune.hosted.recipe import HostedRecipe

# Words by which Inspect's OpenAI provider tells families apart; inside our suffix they would switch
# a fine-tune to the responses API, or to a reasoning model's parameters.
_SWITCHES = re.compile(r"gpt-?\d|codex|deep-research|computer-use|vision|o\d")


def unswitched(text: str) -> str:
    """Return a name in lower case, letters, digits and hyphens, that says nothing to Inspect."""
    text = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    while match := _SWITCHES.search(text):
        text = f"{text[: match.start() + 1]}-{text[match.start() + 1 :]}"
    return text


def suffix(recipe: HostedRecipe, seed: int, longest: int) -> str:
    """Return the suffix of a model's name: group and seed, in letters that services take.

    Args:
        recipe: The recipe; its group is shortened to fit.
        seed: The seed, always whole.
        longest: Most characters.
    """
    tail = f"-s{seed}"
    return unswitched(recipe.group)[: longest - len(tail)].strip("-") + tail


def job_key(recipe: HostedRecipe, file_sha256: str, seed: int, attempt: int) -> str:
    """Return the key that a job carries: the same for the same fine-tune, and for nothing else.

    What names the training and its files is in it; what merely describes is not.
    """
    decides = {
        "base": recipe.base,
        "data": file_sha256,
        "group": recipe.group,
        "name": recipe.name,
        "seed": seed,
        "attempt": attempt,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate_multiplier": recipe.learning_rate_multiplier,
        "tinker": recipe.tinker.model_dump() if recipe.service == "tinker" else None,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]
