"""What a client asked, whatever the provider's format, and what the answer is and costs.

It does not read or write any format: that is `openai.py`, `anthropic.py` and `gemini.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NOTHING_SAID = "Nothing"  # a provider that answers with no token at all would hide mistakes


class BadQuestion(Exception):
    """The request breaks the provider's format; the message says where."""


@dataclass(frozen=True)
class Wishes:
    """What the request wants of the mock itself: the header `X-Mock`, or a model `mock-<fault>`.

    fault      an HTTP status from 400, `cut` (the connection ends in mid-answer), `hang` (no
               answer at all) or `silent` (an answer without usage)
    pause      seconds before each piece of a stream
    cached     prompt tokens that count as read from the cache
    written    prompt tokens that count as written to the cache (Anthropic)
    reasoning  tokens of the answer that are not in its text
    """

    fault: str = ""
    pause: float = 0.0
    cached: int = 0
    written: int = 0
    reasoning: int = 0

    @property
    def status(self) -> int | None:
        return int(self.fault) if self.fault.isdecimal() else None


@dataclass(frozen=True)
class Question:
    """One call. `texts` are all texts of the prompt in order, the last message's at the end."""

    model: str
    texts: tuple[str, ...]
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False

    @property
    def prompt_words(self) -> int:
        return sum(len(text.split()) for text in self.texts)


@dataclass(frozen=True)
class Answer:
    """The words of the answer and the tokens to be billed: one a word, on both sides."""

    words: tuple[str, ...]
    is_cut_short: bool
    prompt_tokens: int
    cached_tokens: int
    written_tokens: int
    reasoning_tokens: int

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text in the pieces that a stream sends."""
        return (*(word + " " for word in self.words[:-1]), *self.words[-1:])

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def answer_tokens(self) -> int:
        return len(self.words) + self.reasoning_tokens


def answer(question: Question, wishes: Wishes) -> Answer:
    """Say the last text again, up to `max_tokens` words."""
    words = tuple((question.texts[-1] if question.texts else "").split()) or (NOTHING_SAID,)
    limit = len(words) if question.max_tokens is None else max(question.max_tokens, 1)
    prompt = question.prompt_words
    cached = min(wishes.cached, prompt)
    return Answer(
        words=words[:limit],
        is_cut_short=limit < len(words),
        prompt_tokens=prompt,
        cached_tokens=cached,
        written_tokens=min(wishes.written, prompt - cached),
        reasoning_tokens=wishes.reasoning,
    )


def wishes(header: str, model: str) -> Wishes:
    """Read `X-Mock`, such as `fault=cut, pause=0.2, reasoning=4`; a model `mock-429` is a fault.

    Raises BadQuestion, which names what it does not know.
    """
    given: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in header.split(","))):
        name, _, value = part.partition("=")
        given[name.strip()] = value.strip()
    if model.startswith("mock-"):
        given.setdefault("fault", model.removeprefix("mock-"))
    if unknown := given.keys() - Wishes.__dataclass_fields__.keys():
        raise BadQuestion(f"X-Mock does not know {', '.join(sorted(unknown))}")
    fault = given.get("fault", "")
    if fault not in ("", "cut", "hang", "silent") and not _is_error_status(fault):
        raise BadQuestion(f"fault must be 400 to 599, cut, hang or silent, not {fault!r}")
    return Wishes(
        fault=fault,
        pause=_number(given, "pause"),
        cached=int(_number(given, "cached")),
        written=int(_number(given, "written")),
        reasoning=int(_number(given, "reasoning")),
    )


def texts_of(content: Any, where: str) -> Iterable[str]:
    """The texts of a message's content: a string, or a list of parts with `text`."""
    if isinstance(content, str):
        return (content,)
    if content is None:
        return ()
    if not isinstance(content, list):
        raise BadQuestion(f"{where} must be a string or a list of parts")
    return tuple(
        part["text"]
        for part in content
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    )


def messages_of(body: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The messages under `key`; raises BadQuestion without a single one."""
    messages = body.get(key)
    if not isinstance(messages, list) or not messages:
        raise BadQuestion(f"{key} must be a list with at least one message")
    if not all(isinstance(message, Mapping) for message in messages):
        raise BadQuestion(f"{key} must hold objects")
    return messages


def limit_of(value: Any, where: str) -> int | None:
    """The most tokens of the answer, None without a limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadQuestion(f"{where} must be a whole number from 1")
    return value


def _is_error_status(text: str) -> bool:
    return text.isdecimal() and 400 <= int(text) <= 599


def _number(given: Mapping[str, str], name: str) -> float:
    try:
        value = float(given.get(name, "0"))
    except ValueError as err:
        raise BadQuestion(f"{name} must be a number, not {given[name]!r}") from err
    if not 0 <= value <= 1_000_000:
        raise BadQuestion(f"{name} must be from 0 to 1000000, not {given[name]}")
    return value
