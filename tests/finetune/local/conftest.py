"""Fixtures of the local fine-tuning tests."""

from tiny_models import chats, tiny_base, tiny_recipe

__all__ = ["chats", "tiny_base", "tiny_recipe"]
