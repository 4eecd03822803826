"""Sharing: identical ratings are asked for once, also when they are asked for at the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from em_inspect.judging.reply import Reply

REMEMBERED = 5_000


@dataclass
class _Pending:
    done: anyio.Event = field(default_factory=anyio.Event)
    reply: Reply | None = None


@dataclass
class Sharing:
    """Replies of one judge that are under way, and, for judges in this process, those given.

    Attributes:
        remember: Keep replies after they were given. Judges behind an API do without: Inspect's own
            cache keeps theirs on disk.
    """

    remember: bool
    pending: dict[str, _Pending] = field(default_factory=dict)
    known: OrderedDict[str, Reply] = field(default_factory=OrderedDict)

    async def reply(self, key: str, ask: Callable[[], Awaitable[Reply]]) -> tuple[Reply, bool]:
        """Return the reply to a key and whether another rating had asked for it.

        One that fails is told to everyone who waits for it, and is not kept.
        """
        while True:
            if key in self.known:
                return self.known[key], True
            if key not in self.pending:
                return await self._own(key, ask), False
            other = self.pending[key]
            await other.done.wait()
            if other.reply is not None:
                return other.reply, True

    async def _own(self, key: str, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        pending = self.pending[key] = _Pending()
        try:
            pending.reply = await ask()
        finally:  # also when cancelled: whoever waits then asks on its own account
            del self.pending[key]
            pending.done.set()
        if self.remember and pending.reply.failure is None:
            self.known[key] = pending.reply
            if len(self.known) > REMEMBERED:
                self.known.popitem(last=False)
        return pending.reply
