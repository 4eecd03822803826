"""Tinker's fine-tuning service: LoRA on open models, the training loop on the caller's machine.

A job here is a series of Tinker training runs that carry the same key. Each piece of work takes up
the last saved state, trains to the next one, and saves; what is lost in a crash is one piece.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from em_finetune.data.rows import read_rows, replacing
from em_finetune.hosted.recipe import HostedRecipe, ServiceName
from em_finetune.hosted.refusals import Context, refusal
from em_finetune.hosted.secrets import public_url
from em_finetune.hosted.service import (
    KEY,
    Job,
    Limits,
    Progress,
    Service,
    StepModel,
    Wanted,
)
from em_finetune.hosted.tinker_errors import explained
from em_finetune.hosted.tinker_training import encode, plan_steps, train
from em_inspect.cache import cache_root
from em_inspect.errors import UserError, require_extra

if TYPE_CHECKING:
    import tinker

_OWN = "https://tinker.thinkingmachines.dev/services/tinker-prod"
_FINAL = "final"
_PAGE = 100


class TinkerService(Service):
    """Runs, checkpoints and training over the official client, `tinker`."""

    name: ServiceName = "tinker"
    keeps_key = True

    def __init__(self, base_url: str | None, recipe: HostedRecipe | None, timeout: float) -> None:
        require_extra("tinker", "tinker", "transformers")
        if not os.environ.get("TINKER_API_KEY"):
            raise UserError("no key for Tinker: export TINKER_API_KEY=… and try again")
        self._base_url = base_url
        self.endpoint = public_url(base_url or os.environ.get("TINKER_BASE_URL") or _OWN)
        self._context = Context(self.name, self.endpoint, recipe)
        longest = recipe.tinker.max_length if recipe else 2048
        self.limits = Limits(rows=1, row_tokens=longest, consumer="local")

    @cached_property
    def _client(self) -> tinker.ServiceClient:
        import tinker

        with explained(self._context):
            return tinker.ServiceClient(base_url=self._base_url)

    @cached_property
    def _rest(self) -> tinker.RestClient:
        import tinker

        with explained(self._context):
            return tinker.RestClient(base_url=self._base_url)

    @override
    def find_file(self, name: str, size: int) -> str | None:
        # Nothing is uploaded as a file: rows go along with each step, from a copy in the cache.
        return name if self.has_file(name) else None

    @override
    def has_file(self, file_id: str) -> bool:
        return (cache_root() / "tinker" / file_id).is_file()

    @override
    def upload(self, name: str, content: bytes) -> str:
        with replacing(cache_root() / "tinker" / name) as file:
            file.write(content)
        return name

    @override
    def jobs(self, key: str | None = None) -> Iterator[Job]:
        keys = [run.user_metadata[KEY] for run in reversed(self._runs(key))]
        yield from map(self.job, dict.fromkeys(keys))

    @override
    def create(self, wanted: Wanted) -> Job:
        self._begin(wanted)
        return Job(
            id=wanted.key,
            status="running",
            base=wanted.recipe.base,
            file_id=wanted.file_id,
            seed=wanted.seed,
            created=time.time(),
            metadata=wanted.metadata,
        )

    @override
    def job(self, job_id: str) -> Job:
        runs = self._runs(job_id)
        if not runs:
            raise refusal(404, "", f"no training run has the {KEY} {job_id}", self._context)
        metadata = {name: str(value) for name, value in runs[0].user_metadata.items()}
        final = self._saved(job_id, "sampler").get(_FINAL)
        found = Job(
            id=job_id,
            status="succeeded" if final else "running",
            base=runs[0].base_model,
            file_id=metadata.get("em_file", ""),
            created=runs[0].last_request_time.timestamp(),
            model=final,
            metadata=metadata,
        )
        return replace(found, seed=found.number("em_seed"))

    @override
    def progress(self, job_id: str, after: str | None) -> Progress:
        return Progress(last=after)

    @override
    def models(self, job_id: str) -> list[StepModel]:
        saved = self._saved(job_id, "sampler").items()
        steps = [StepModel(int(name[-6:]), path) for name, path in saved if name != _FINAL]
        return sorted(steps, key=lambda model: model.step)

    @override
    def cancel(self, job_id: str) -> Job:
        # Nothing runs by itself: not going on is all there is to it.
        return replace(self.job(job_id), status="cancelled")

    @override
    def work(self, wanted: Wanted, job_id: str) -> Progress:
        rows = read_rows(cache_root() / "tinker" / wanted.file_id)
        states = self._saved(job_id, "training")
        if _FINAL in self._saved(job_id, "sampler"):
            return Progress()
        done = max((int(name[-6:]) for name in states), default=0)
        client = self._begin(wanted, states.get(_state(done)))
        with explained(self._context):
            encoded = encode(rows, client.get_tokenizer(), wanted.recipe)
            steps = plan_steps(len(encoded), wanted.recipe, wanted.seed)
            until = min(done + wanted.recipe.tinker.save_every, len(steps))
            losses = train(client, encoded, steps, wanted.recipe, range(done, until))
            if until < len(steps):
                client.save_weights_for_sampler(_state(until)).result()
            if losses:
                client.save_state(_state(until)).result()
            if until == len(steps):
                client.save_weights_for_sampler(_FINAL).result()
        return Progress(losses, len(steps))

    @override
    def inspect_args(self, model: str, label: str) -> list[str]:
        url = f"{self.endpoint}/oai/api/v1"
        return ["--model", f"openai-api/tinker/{model}", "--model-base-url", url]

    def _begin(self, wanted: Wanted, state: str | None = None) -> tinker.TrainingClient:
        """Begin a training run, from a saved state or, free of charge, from the start."""
        metadata = {**wanted.metadata, "em_file": wanted.file_id}
        with explained(self._context):
            if state is not None:
                return self._client.create_training_client_from_state_with_optimizer(
                    state, user_metadata=metadata
                ).result()
            base, rank = wanted.recipe.base, wanted.recipe.tinker.rank
            return self._client.create_lora_training_client(
                base, rank, wanted.seed, user_metadata=metadata
            ).result()

    def _runs(self, key: str | None) -> list[Any]:
        """Training runs that carry the key, or any key of ours, by their last request."""
        found: list[Any] = []
        with explained(self._context):
            for offset in count(0, _PAGE):
                page = (
                    self._rest.list_training_runs(limit=_PAGE, offset=offset).result().training_runs
                )
                found += [r for r in page if key in ((r.user_metadata or {}).get(KEY), None)]
                if len(page) < _PAGE:
                    break
        ours = (run for run in found if KEY in (run.user_metadata or {}))
        return sorted(ours, key=lambda run: run.last_request_time)

    def _saved(self, key: str, kind: str) -> dict[str, str]:
        """Checkpoints of a job's runs by name; where two have one, that of the newer run."""
        found: dict[str, str] = {}
        for run in self._runs(key):
            with explained(self._context):
                saved = self._rest.list_checkpoints(run.training_run_id).result().checkpoints
            ours = [c.tinker_path for c in saved if c.checkpoint_type == kind]
            found |= {path.rsplit("/", 1)[1]: path for path in ours}
        return found


def _state(step: int) -> str:
    return f"step-{step:06}"
