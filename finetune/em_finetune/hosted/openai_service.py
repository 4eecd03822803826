"""OpenAI's fine-tuning service, and every server that speaks its API under another address."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import openai
from openai.types import fine_tuning
from pydantic import BaseModel
from typing_extensions import override

from em_finetune.hosted.recipe import HostedRecipe, ServiceName
from em_finetune.hosted.refusals import Context, refusal_of, unreachable
from em_finetune.hosted.secrets import hide, public_url
from em_finetune.hosted.service import (
    KEY,
    Job,
    Progress,
    Service,
    StepModel,
    UnclearError,
    Wanted,
)
from em_finetune.hosted.service_error import ServiceError
from em_inspect.errors import UserError

_OWN = "https://api.openai.com/v1"
_STEP = re.compile(r"step (\d+)/(\d+)\D*?loss\s*=\s*([\d.]+)", re.IGNORECASE)
# The client's own retries are for calls that change nothing. Those that do are made once: after an
# answer that never came, the caller looks for what it may have done before it calls again.
_RETRIES = 3


class OpenAIService(Service):
    """Files, fine-tuning jobs, events and checkpoints over the official client."""

    name: ServiceName = "openai"
    keeps_metadata = True
    """Whether the service takes metadata; whether it keeps it is another question."""

    def __init__(self, base_url: str | None, recipe: HostedRecipe | None, timeout: float) -> None:
        self._client = self._connect(base_url, timeout)
        self._once = self._client.with_options(max_retries=0)
        self._upload = self._client.with_options(max_retries=0, timeout=10 * timeout)
        self.endpoint = public_url(str(self._client.base_url))
        self._context = Context(self.name, self.endpoint, recipe)

    def _connect(self, base_url: str | None, timeout: float) -> openai.OpenAI:
        if not os.environ.get("OPENAI_API_KEY"):
            raise UserError("no key for OpenAI: export OPENAI_API_KEY=… and try again")
        return openai.OpenAI(base_url=base_url, timeout=timeout, max_retries=_RETRIES)

    @override
    def find_file(self, name: str, size: int) -> str | None:
        with self._answers():
            files = self._client.files.list(purpose="fine-tune", limit=1000)
            alike = (f for f in files if (f.filename, f.bytes) == (name, size))
            return next((f.id for f in alike if f.status != "error"), None)

    @override
    def has_file(self, file_id: str) -> bool:
        with self._answers():
            try:
                return self._client.files.retrieve(file_id).status != "error"
            except openai.NotFoundError:
                return False

    @override
    def upload(self, name: str, content: bytes) -> str:
        with self._answers(changes=True):
            file_id = self._upload.files.create(file=(name, content), purpose="fine-tune").id
            return _told(file_id, "id of the file")

    @override
    def jobs(self, key: str | None = None) -> Iterator[Job]:
        with self._answers():
            if key is not None and self.keeps_metadata:
                page = self._client.fine_tuning.jobs.list(limit=100, metadata={KEY: key})
            else:
                page = self._client.fine_tuning.jobs.list(limit=100)
            found = [_job(raw) for raw in page]
        yield from found

    @override
    def create(self, wanted: Wanted) -> Job:
        chosen: Any = wanted.hyperparameters
        metadata = dict(wanted.metadata) if self.keeps_metadata else openai.omit
        with self._answers(changes=True):
            return _job(
                self._once.fine_tuning.jobs.create(
                    model=wanted.recipe.base,
                    training_file=wanted.file_id,
                    suffix=wanted.suffix,
                    seed=wanted.seed,
                    metadata=metadata,
                    method={"type": "supervised", "supervised": {"hyperparameters": chosen}},
                )
            )

    @override
    def job(self, job_id: str) -> Job:
        with self._answers():
            return _job(self._client.fine_tuning.jobs.retrieve(job_id))

    @override
    def progress(self, job_id: str, after: str | None) -> Progress:
        losses: dict[int, float] = {}
        steps: int | None = None
        last: str | None = None
        with self._answers():
            for event in self._client.fine_tuning.jobs.list_events(job_id, limit=100):
                if event.id == after:
                    break
                last = last or event.id
                step, total, loss = _step(event)
                steps = steps or total
                if step is not None and loss is not None:
                    losses.setdefault(step, loss)
        return Progress(dict(sorted(losses.items())), steps, last or after)

    @override
    def models(self, job_id: str) -> list[StepModel]:
        with self._answers():
            found = [
                StepModel(c.step_number, c.fine_tuned_model_checkpoint, c.metrics.train_loss)
                for c in self._client.fine_tuning.jobs.checkpoints.list(job_id, limit=100)
            ]
        return sorted(found, key=lambda model: model.step)

    @override
    def cancel(self, job_id: str) -> Job:
        with self._answers():
            return _job(self._client.fine_tuning.jobs.cancel(job_id))

    @override
    def inspect_args(self, model: str, label: str) -> list[str]:
        arguments = ["--model", f"openai/{model}"]
        if "gpt" not in model.lower():
            # Inspect takes a name it does not know for OpenAI's newest and changes the API path.
            arguments += ["-M", "responses_api=false"]
        if self.endpoint != _OWN:
            arguments += ["--model-base-url", self.endpoint]
        return arguments

    @override
    def base_args(self, base: str) -> list[str]:
        return self.inspect_args(base, base)

    @contextmanager
    def _answers(self, changes: bool = False) -> Iterator[None]:
        """Turn what can go wrong in a call into words; errors hold requests, and so keys.

        Args:
            changes: Whether the call changes something: an answer that cannot be understood then
                says neither that it was done nor that it was not.
        """
        try:
            yield
        except openai.APIConnectionError as error:
            slow = isinstance(error, openai.APITimeoutError)
            raise UnclearError(
                unreachable(self._context, slow), nothing_done=_never_left(error)
            ) from None
        except openai.APIStatusError as error:
            said = ServiceError.of_body(error.status_code, error.body)
            told = refusal_of(said, self._context)
            if said.passes:
                wait = _seconds(error.response.headers)
                raise UnclearError(told, wait, nothing_done=error.status_code == 429) from None
            raise told from None
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
            told = UserError(
                f"{self.endpoint} did not answer as the fine-tuning API does "
                f"({hide(str(error))[:120]}): check the base URL"
            )
            raise (UnclearError(told) if changes else told) from None


def _never_left(error: openai.APIConnectionError) -> bool:
    # By name: the client has changed its HTTP library, and not these names.
    cause = type(error.__cause__).__name__
    return cause in ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol")


def _told(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"no {what} in its answer")
    return value


def _job(raw: fine_tuning.FineTuningJob) -> Job:
    # Servers that speak the API leave out what they please, and the client does not check.
    method = getattr(raw, "method", None)
    chosen = getattr(method, "supervised", None)
    hyperparameters = getattr(chosen, "hyperparameters", None) or getattr(
        raw, "hyperparameters", None
    )
    error = ServiceError.of_body(None, _plain(getattr(raw, "error", None)))
    seed, created = getattr(raw, "seed", None), getattr(raw, "created_at", None)
    status: Any = _told(getattr(raw, "status", None), "status of a job")
    metadata = getattr(raw, "metadata", None)
    return Job(
        id=_told(getattr(raw, "id", None), "id of a job"),
        status=status,
        base=getattr(raw, "model", None) or "",
        file_id=getattr(raw, "training_file", None) or "",
        seed=seed if isinstance(seed, int) else None,
        created=float(created) if isinstance(created, int | float) and created > 0 else None,
        model=getattr(raw, "fine_tuned_model", None),
        finish=getattr(raw, "estimated_finish", None),
        trained_tokens=getattr(raw, "trained_tokens", None),
        error_code=error.code,
        error=error.message,
        metadata={str(k): str(v) for k, v in metadata.items()}
        if isinstance(metadata, Mapping)
        else {},
        hyperparameters=_settings(hyperparameters),
    )


def _settings(hyperparameters: Any) -> dict[str, int | float | str]:
    told = _plain(hyperparameters)
    known = told.items() if isinstance(told, Mapping) else ()
    return {str(k): v for k, v in known if isinstance(v, int | float | str)}


def _plain(value: Any) -> object:
    return value.model_dump() if isinstance(value, BaseModel) else value


def _step(event: fine_tuning.FineTuningJobEvent) -> tuple[int | None, int | None, float | None]:
    """Step, steps in all and loss of an event, from its data or else from its words."""
    data: Any = event.data if isinstance(event.data, Mapping) else {}
    if "step" in data and "train_loss" in data:
        return int(data["step"]), data.get("total_steps"), float(data["train_loss"])
    match = _STEP.search(event.message or "")
    return (int(match[1]), int(match[2]), float(match[3])) if match else (None, None, None)


def _seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None
