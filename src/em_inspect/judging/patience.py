"""Patience: how long a judge is waited for, and how long one that has vanished is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
from inspect_ai.model import GenerateConfig

from em_inspect.judging.rating import Failure
from em_inspect.judging.reply import Reply

# A storm of 429s or 500s is waited out: waits of 3, 6, 12 … seconds, ten minutes at most in all.
# Then the rating counts as failed, not the run.
WAIT = GenerateConfig(max_retries=7, timeout=600, attempt_timeout=120)

# A judge that several ratings in a row could not reach is only knocked at, now and then.
KNOCK = GenerateConfig(max_retries=0, timeout=30, attempt_timeout=30)
KNOCK_EVERY = 5.0  # seconds

VANISHED_AFTER = 5

_GONE = ("unreachable", "timed_out", "server_error")


@dataclass
class Patience:
    """What one judge's last replies say of how long to wait for the next.

    Without it, a judge that vanishes in mid-run would cost ten minutes for every connection's worth
    of the ratings still to come. Once it is taken for gone, the ratings that wait for it are given
    up, and of those to come one every five seconds knocks; the first reply restores the patience.
    """

    in_vain: int = 0
    failure: Failure = "unreachable"
    next_knock: float = 0.0
    waiting: set[anyio.CancelScope] = field(default_factory=set)

    @property
    def gone(self) -> bool:
        """Whether the judge is taken to have vanished."""
        return self.in_vain >= VANISHED_AFTER

    async def reply(self, ask: Callable[[GenerateConfig], Awaitable[Reply]]) -> Reply:
        """Ask with the settings that fit, and take note of what comes back.

        Args:
            ask: Asks the judge once, with settings for retries and time limits.
        """
        if not self.gone:
            with anyio.CancelScope() as scope:
                self.waiting.add(scope)
                try:
                    return self._learn(await ask(WAIT))
                finally:
                    self.waiting.discard(scope)
        if time.monotonic() >= self.next_knock:
            self.next_knock = time.monotonic() + KNOCK_EVERY
            return self._learn(await ask(KNOCK))
        detail = f"given up: the judge failed {self.in_vain} ratings in a row"
        return Reply(failure=self.failure, detail=detail)

    def _learn(self, reply: Reply) -> Reply:
        if reply.failure not in _GONE:
            self.in_vain = 0
            return reply
        self.in_vain += 1
        self.failure = reply.failure
        if self.gone:
            for scope in list(self.waiting):
                scope.cancel()
        return reply
