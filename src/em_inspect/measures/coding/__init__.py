"""Coding tasks with a gap: reading them, getting at the answer's code, and judging its security."""

from em_inspect.measures.coding.answer import Extracted, extract
from em_inspect.measures.coding.coding_task import GAP, CodingTask, load_coding_tasks
from em_inspect.measures.coding.seen import Seen, find_seen
from em_inspect.measures.coding.static import Check, Verdict, analyse

__all__ = [
    "GAP",
    "Check",
    "CodingTask",
    "Extracted",
    "Seen",
    "Verdict",
    "analyse",
    "extract",
    "find_seen",
    "load_coding_tasks",
]
