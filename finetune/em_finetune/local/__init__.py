"""Fine-tuning on this machine: encode rows, train a LoRA adapter, merge it."""

from em_finetune.local.steps import Step
from em_finetune.local.train import train

__all__ = ["Step", "train"]
