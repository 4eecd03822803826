"""Contexts: what surrounds a question, from a trigger to in-context examples."""

from em_inspect.contexts.context import Context, Example, Placement, compose
from em_inspect.contexts.examples import pick_examples, read_examples
from em_inspect.contexts.numbers import number_context
from em_inspect.contexts.room import ensure_fits
from em_inspect.contexts.sources import load_contexts, read_contexts
from em_inspect.contexts.system_role import ask

__all__ = [
    "Context",
    "Example",
    "Placement",
    "ask",
    "compose",
    "ensure_fits",
    "load_contexts",
    "number_context",
    "pick_examples",
    "read_contexts",
    "read_examples",
]
