"""What users, services and models wrote is shown as it is: rich reads no markup in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import em_finetune
import em_inspect

PACKAGES = (em_inspect, em_finetune)


def calls() -> Iterator[tuple[str, ast.Call]]:
    for package in PACKAGES:
        for path in sorted(Path(next(iter(package.__path__))).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield f"{path.name}:{node.lineno}", node


def is_composed(node: ast.expr) -> bool:
    """Whether an expression is text put together at run time, and no renderable or constant."""
    if isinstance(node, ast.JoinedStr | ast.BinOp):
        return True
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Attribute):
        return called.attr in ("format", "join", "replace")
    return isinstance(called, ast.Name) and called.id == "str"


def without_markup(call: ast.Call) -> bool:
    given = {k.arg: k.value for k in call.keywords}
    markup = given.get("markup")
    return isinstance(markup, ast.Constant) and markup.value is False


def test_composed_text_is_printed_without_markup() -> None:
    found, wrong = 0, []
    for where, call in calls():
        printed = isinstance(call.func, ast.Attribute) and call.func.attr == "print"
        if printed and call.args and is_composed(call.args[0]):
            found += 1
            wrong += [] if without_markup(call) else [where]
    assert wrong == []
    assert found > 10


def test_the_columns_of_progress_bars_have_no_markup() -> None:
    found, wrong = 0, []
    for where, call in calls():
        if isinstance(call.func, ast.Name) and call.func.id == "TextColumn":
            template = call.args[0]
            if isinstance(template, ast.Constant) and "{" not in str(template.value):
                continue
            found += 1
            wrong += [] if without_markup(call) else [where]
    assert wrong == []
    assert found >= 5


def test_titles_and_cells_are_no_composed_text() -> None:
    wrong = []
    for where, call in calls():
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        name = call.func.id if isinstance(call.func, ast.Name) else name
        if name in ("add_row", "add_column", "Table"):
            given = [*call.args, *(k.value for k in call.keywords if k.arg in ("title", "caption"))]
            wrong += [where for node in given if isinstance(node, ast.JoinedStr)]
    assert wrong == []
