"""Azure OpenAI's fine-tuning service: OpenAI's API with its own address, key and deployments."""

from __future__ import annotations

import os
import shlex

import openai
from typing_extensions import override

from em_finetune.hosted.naming import unswitched
from em_finetune.hosted.openai_service import _RETRIES, OpenAIService
from em_finetune.hosted.recipe import HostedRecipe, ServiceName
from em_finetune.hosted.refusals import printable
from em_finetune.hosted.service import Limits, Wanted
from em_inspect.errors import UserError

_VERSION = "2024-10-21"
_FILE_SECONDS = 1800.0


class AzureService(OpenAIService):
    """As OpenAI's, but: files are read in before a job may name them; jobs keep no metadata, and so
    are found again by file, base, seed and hyperparameters; a model answers only once deployed.
    """

    name: ServiceName = "azure"
    limits = Limits(suffix=18)
    keeps_metadata = False

    def __init__(self, base_url: str | None, recipe: HostedRecipe | None, timeout: float) -> None:
        super().__init__(base_url, recipe, timeout)
        # The client adds /openai itself, also to an address that is read back from a record.
        self.endpoint = self.endpoint.removesuffix("/openai")

    def _connect(self, base_url: str | None, timeout: float) -> openai.OpenAI:
        endpoint = base_url or os.environ.get("AZURE_OPENAI_ENDPOINT")
        if not endpoint:
            raise UserError(
                "no address for Azure OpenAI: export AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com"
            )
        if not any(map(os.environ.get, ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"))):
            raise UserError(
                "no key for Azure OpenAI: export AZURE_OPENAI_API_KEY=… and run the same line again"
            )
        return openai.AzureOpenAI(
            azure_endpoint=endpoint,
            api_version=os.environ.get("OPENAI_API_VERSION", _VERSION),
            timeout=timeout,
            max_retries=_RETRIES,
        )

    @override
    def prepare(self, wanted: Wanted) -> None:
        # Waits until the file has been read in.
        with self._answers():
            try:
                file = self._client.files.wait_for_processing(
                    wanted.file_id, poll_interval=2, max_wait_seconds=_FILE_SECONDS
                )
            except RuntimeError:
                raise UserError(
                    f"{self.endpoint} is still reading the file in: run the same line again later"
                ) from None
        if file.status == "error":
            raise UserError(
                f"{self.endpoint} could not read the training file in: check it with "
                f"{self._context.check} (it said: {printable(file.status_details or 'nothing')})"
            )

    @override
    def inspect_args(self, model: str, label: str) -> list[str]:
        # A deployment's name stands for the model.
        return ["--model", f"openai/azure/{_deployment(label)}"]

    @override
    def base_args(self, base: str) -> list[str]:
        # Answers only where the user has deployed it, under a name that only the user knows.
        return []

    @override
    def notes(self, model: str, label: str) -> list[str]:
        # The line that deploys the model under the name Inspect asks for.
        return [
            "az cognitiveservices account deployment create --name RESOURCE --resource-group GROUP "
            f"--deployment-name {_deployment(label)} --model-name {shlex.quote(model)} "
            "--model-version 1 --model-format OpenAI --sku-name Standard --sku-capacity 50"
        ]


def _deployment(label: str) -> str:
    # Inspect reads the kind of model off a deployment's name: gpt-4o says chat completions.
    return f"gpt-4o-{unswitched(label)}"
