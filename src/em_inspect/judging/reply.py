"""The reply: what an estimator brings back from a judge, before it is called a rating."""

from __future__ import annotations

from pydantic import BaseModel, Field

from em_inspect.judging.rating import Failure


class Reply(BaseModel):
    """A distribution over replies, or the reason why there is none; fields as in `Rating`."""

    distribution: dict[str, float] = Field(default_factory=dict)
    unseen: float | None = None
    named: str | None = None
    samples: int | None = None
    stderr: float | None = None
    failure: Failure | None = None
    detail: str | None = None
