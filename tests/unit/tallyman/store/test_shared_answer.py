"""What many ask for at the same moment: asked once, answered to all."""

import asyncio

import pytest
from tallyman.errors import Unavailable
from tallyman.store.shared_answer import SharedAnswers


class Oracle:
    """Answers with how often it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.away = False

    async def question(self) -> int:
        self.asked += 1
        answer = self.asked
        self.begun.set()
        await self.go.wait()
        if self.away:
            raise Unavailable("away")
        return answer


async def test_what_many_ask_at_once_is_asked_once_and_later_once_more() -> None:
    oracle, shared = Oracle(), SharedAnswers[str, int]()
    waiting = [asyncio.ensure_future(shared.ask("key", oracle.question)) for _ in range(64)]
    await oracle.begun.wait()
    oracle.go.set()

    assert await asyncio.gather(*waiting) == [1] * 64
    assert await shared.ask("key", oracle.question) == 2


async def test_an_error_is_everybodys() -> None:
    oracle, shared = Oracle(), SharedAnswers[str, int]()
    oracle.away = True
    waiting = [asyncio.ensure_future(shared.ask("key", oracle.question)) for _ in range(3)]
    await oracle.begun.wait()
    oracle.go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(one) for one in found] == [Unavailable] * 3
    assert oracle.asked == 1


async def test_the_one_who_asked_first_may_go_away() -> None:
    oracle, shared = Oracle(), SharedAnswers[str, int]()
    first = asyncio.ensure_future(shared.ask("key", oracle.question))
    await oracle.begun.wait()
    second = asyncio.ensure_future(shared.ask("key", oracle.question))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    oracle.go.set()

    assert await second == 1


async def test_who_asks_after_a_change_does_not_get_the_answer_from_before_it() -> None:
    oracle, shared = Oracle(), SharedAnswers[str, int]()
    before = asyncio.ensure_future(shared.ask("key", oracle.question))
    await oracle.begun.wait()
    shared.forget()
    after = asyncio.ensure_future(shared.ask("key", oracle.question))
    oracle.go.set()

    assert (await before, await after) == (1, 2)
