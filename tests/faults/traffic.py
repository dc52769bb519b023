"""Owns seeded traffic: log entries with known numbers, and what they must come to, counted apart.

The count is made of the numbers that the entries were given, by no code of the plugin or collector.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.rigs.plugin import entry

CASES = ("openai_chat",)


@dataclass(frozen=True)
class Call:
    """An entry of Kong's log, and the tokens of its prompt and answer."""

    entry: dict[str, Any]
    prompt: int
    answer: int

    @property
    def tokens_by_id(self) -> dict[str, int]:
        """Its events' ids, with the tokens of each."""
        name = f"{self.entry['request']['id']}:proxy"
        return {f"{name}:request": self.prompt, f"{name}:response": self.answer}

    @property
    def line(self) -> str:
        return json.dumps(self.entry)


def calls(seed: int, count: int, begin: datetime | None = None, consumers: int = 5) -> list[Call]:
    """Calls a second apart, of so many consumers in turn."""
    chance = random.Random(seed)
    at = begin or datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    made = []
    for number in range(count):
        prompt, answer = chance.randrange(1, 10**6), chance.randrange(1, 10**6)
        log = entry(f"call-{seed}-{number}", chance.choice(CASES))
        log["ai"]["proxy"]["usage"] |= {"prompt_tokens": prompt, "completion_tokens": answer}
        log["started_at"] = int((at + timedelta(seconds=number)).timestamp() * 1000)
        log["consumer"] = {
            "id": f"c-{number % consumers}",
            "username": f"consumer-{number % consumers}",
        }
        made.append(Call(log, prompt, answer))
    return made


def expected(these: Iterable[Call]) -> dict[str, int]:
    """The tokens by type."""
    sums: Counter[str] = Counter()
    for call in these:
        sums["request"] += call.prompt
        sums["response"] += call.answer
    return dict(sums)


def groups(these: Sequence[Call], size: int) -> list[Sequence[Call]]:
    return [these[begin : begin + size] for begin in range(0, len(these), size)]
