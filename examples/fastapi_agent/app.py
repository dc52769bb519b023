"""An AI agent that bills by use: three endpoints, a key per user, and a usage event per answer.

The model is a mock (`answer`); the meters, prices and invoices are the collector's.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, Field

COLLECTOR = os.environ["KONNECT_API_URL"]  # such as http://localhost:8888/v3/openmeter
KEY = os.environ["KONNECT_TOKEN"]  # `tallyman keys create --scope ingest`
RETRY_AFTER_SECONDS = (0.5, 2, 8, 30)

# A real application keeps hashes of its keys in a database.
USERS = {
    "ak_user1_abc123": "user-001",
    "ak_user2_def456": "user-002",
    "ak_user3_ghi789": "user-003",
}
log = logging.getLogger("uvicorn.error")


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Answer(BaseModel):
    content: str
    model: str
    usage: Usage


class Ask(BaseModel):
    model: str = "gpt-4o-mini"
    max_tokens: int = Field(512, gt=0)


class Generate(Ask):
    prompt: str
    max_tokens: int = Field(1024, gt=0)


class Summarize(Ask):
    text: str


class Analyze(Ask):
    text: str
    query: str


def answer(ask: Ask, instruction: str, question: str) -> Answer:
    """Where a provider would be called: says the question back, at one token a word."""
    words = question.split()
    said = words[: ask.max_tokens]
    prompt_tokens = len(instruction.split()) + len(words)
    return Answer(
        content=" ".join(said),
        model=ask.model,
        usage=Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=len(said),
            total_tokens=prompt_tokens + len(said),
        ),
    )


def authenticate(x_api_key: Annotated[str | None, Header()] = None) -> str:
    """The user that the key belongs to: the subject of what is counted."""
    user = USERS.get(x_api_key or "")
    if user is None:
        raise HTTPException(401, "Missing API key" if x_api_key is None else "Invalid API key")
    return user


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """One connection pool to the collector for as long as the application runs."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/cloudevents+json"}
    async with httpx.AsyncClient(headers=headers) as collector:
        yield {"collector": collector}


app = FastAPI(title="AI agent", lifespan=lifespan)


@dataclass
class Meter:
    """Counts an answer after it has been given, so that nobody waits for the bill."""

    request: Request
    tasks: BackgroundTasks
    user: Annotated[str, Depends(authenticate)]

    def count(self, answered: Answer) -> Answer:
        event = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": "ai-text-api",
            "type": "llm_token_usage",
            "subject": self.user,
            "time": datetime.now(UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": {
                **answered.usage.model_dump(),
                "model": answered.model,
                "endpoint": self.request.url.path,
            },
        }
        self.tasks.add_task(send, self.request.state.collector, event)
        return answered


async def send(collector: httpx.AsyncClient, event: dict[str, Any]) -> None:
    """Send an event, again with the same id if need be: what the collector knows counts once."""
    problem = ""
    for seconds in (0, *RETRY_AFTER_SECONDS):
        await asyncio.sleep(seconds)
        try:
            sent = await collector.post(f"{COLLECTOR}/events", json=event)
        except httpx.TransportError as err:
            problem = repr(err)
            continue
        if sent.is_success:
            return
        problem = sent.text
        if sent.is_client_error:  # the same again would be refused again
            break
    log.error("usage event %s was not sent: %s", event["id"], problem)


Metered = Annotated[Meter, Depends()]


@app.post("/api/generate")
def generate(ask: Generate, meter: Metered) -> Answer:
    """Write what the prompt asks for."""
    return meter.count(answer(ask, "You are a helpful writing assistant.", ask.prompt))


@app.post("/api/summarize")
def summarize(ask: Summarize, meter: Metered) -> Answer:
    """Say it in fewer words."""
    return meter.count(answer(ask, "Summarize the following text concisely.", ask.text))


@app.post("/api/analyze")
def analyze(ask: Analyze, meter: Metered) -> Answer:
    """Answer a question about a text."""
    instruction = "Analyze the provided text and answer the user's query about it."
    return meter.count(answer(ask, instruction, f"Text: {ask.text}\n\nQuery: {ask.query}"))
