"""The series: a group of models asked in one way, which is what a number stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame, Series

SEPARATOR = " · "

# Answers that differ in one of these were given under other conditions: never in one number.
PLAIN = ("plain", "choice", "code")
"""Answer formats that need no mention: nobody asks for the others of a set in another form."""

CONDITIONS = ("step", "scale", "context", "examples", "arm")


def with_series(frame: DataFrame, *, by_format: bool = False) -> DataFrame:
    """Return the frame with `group` split by everything that answers were given under.

    The former group stands in the column `trained`, the rest of the name in `condition`. Training
    step, strength, context, number of in-context examples and arm always split; the answer format
    does where asked for.

    Args:
        frame: As from `em_inspect.analysis.samples`.
        by_format: Whether another answer format is another series.
    """
    import pandas as pd

    conditions = [_condition(frame[name], name) for name in CONDITIONS]
    if by_format:
        conditions.append(_condition(frame["format"].where(~frame["format"].isin(PLAIN)), "format"))
    joined = conditions[0]
    for condition in conditions[1:]:
        both = (joined != "") & (condition != "")
        joined = joined + both.map({True: SEPARATOR, False: ""}) + condition
    trained = frame["group"].astype("str")
    series = trained + (joined != "").map({True: SEPARATOR, False: ""}) + joined
    return frame.assign(
        trained=pd.Categorical(trained),
        condition=pd.Categorical(joined),
        group=pd.Categorical(series),
    )


def _condition(column: Series, name: str) -> Series:
    label = {"step": "step ", "scale": "strength ", "examples": "k = "}.get(name, "")
    return (label + column.astype("str")).where(column.notna(), "").astype("str")
