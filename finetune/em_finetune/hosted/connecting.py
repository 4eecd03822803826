"""From a service's name to the service."""

from __future__ import annotations

from em_finetune.hosted.recipe import HostedRecipe, ServiceName
from em_finetune.hosted.service import Service


def open_service(
    name: ServiceName,
    base_url: str | None = None,
    recipe: HostedRecipe | None = None,
    timeout: float = 60,
) -> Service:
    """Connect to a service, with the key from the environment.

    Args:
        name: Which service.
        base_url: Address of a server that speaks the same API; else the environment's
            (`OPENAI_BASE_URL`, `AZURE_OPENAI_ENDPOINT`), else the service's own.
        recipe: What is to be trained, for the words of a refusal.
        timeout: Seconds to wait for an answer; ten times that for an upload.

    Raises:
        UserError: A key or address is missing, or an extra is not installed.
    """
    if name == "tinker":
        from em_finetune.hosted.tinker_service import TinkerService

        return TinkerService(base_url, recipe, timeout)
    if name == "azure":
        from em_finetune.hosted.azure_service import AzureService

        return AzureService(base_url, recipe, timeout)
    from em_finetune.hosted.openai_service import OpenAIService

    return OpenAIService(base_url, recipe, timeout)
