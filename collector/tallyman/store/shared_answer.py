"""Owns that what many ask for at the same moment is asked for once.

It remembers nothing: once answered, the next one asks again.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from functools import partial
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class SharedAnswers(Generic[Key, Answer]):
    """Questions under way, each by its key."""

    def __init__(self) -> None:
        self._asked: dict[Key, asyncio.Task[Answer]] = {}

    async def ask(self, key: Key, question: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """The answer, or the error, of the question under way, or of this one if there is none.

        A caller that goes away does not stop it for the others. The question runs outside of the
        caller's transaction.
        """
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.create_task(question(), context=Context())
            asked.add_done_callback(partial(self._answered, key))
        return await asyncio.shield(asked)

    def forget(self) -> None:
        """Whoever asks from now on gets an answer that was not under way before."""
        self._asked.clear()

    def _answered(self, key: Key, asked: asyncio.Task[Answer]) -> None:
        if self._asked.get(key) is asked:
            del self._asked[key]
        if not asked.cancelled():
            asked.exception()  # looked at: everybody who asked may have gone away
