"""The connection to Stripe with one key: how a call ends, and that no secret is told.

The calls themselves are in `stripe_calls.py` and `operation_calls.py`.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import stripe

from tallyman.errors import StripeKeySpent, StripeRefused, StripeUnanswered
from tallyman.metrics import STRIPE_CALL_SECONDS, STRIPE_CALLS

PAGE: Final = 100
_KEYS: Final = re.compile(r"\b(sk|rk|pk|whsec|pi|seti|cs)_[A-Za-z0-9_*]{6,}")


def mask_key(key: str) -> str:
    """`sk_test_…1234`: enough to tell which, too little to use."""
    kind = re.match(r"(sk|rk)_(test|live)_", key)
    return f"{kind[0] if kind else ''}…{key[-4:]}"


def without_keys(text: str) -> str:
    """The text with whatever looks like a secret of Stripe's taken out."""
    return _KEYS.sub(lambda found: f"{found[1]}_…", text)


class StripeConnection:
    """Stripe, as one account with one key. It retries nothing by itself."""

    def __init__(self, key: str, url: str, timeout_seconds: float) -> None:
        stripe.enable_telemetry = False
        self.masked_key = mask_key(key)
        self.livemode = "_live_" in key
        self.unauthorized = False
        self._http = stripe.AIOHTTPClient(timeout=timeout_seconds)
        self._timeout = timeout_seconds
        self.v1 = stripe.StripeClient(
            key, base_addresses={"api": url}, http_client=self._http, max_network_retries=0
        ).v1

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]  # it has no types

    @asynccontextmanager
    async def call(self, name: str) -> AsyncIterator[None]:
        """One call, counted; what Stripe answers is told as our errors."""
        result = "unanswered"
        try:
            # The library bounds the answer's head and not its body.
            with STRIPE_CALL_SECONDS.labels(name).time():
                async with asyncio.timeout(self._timeout):
                    yield
            result = "done"
            self.unauthorized = False
        except stripe.StripeError as err:
            error = _ours(err)
            result = "refused" if isinstance(error, StripeRefused) else result
            if isinstance(error, StripeUnanswered):
                self.unauthorized = error.unauthorized
            raise error from None  # the cause's text may repeat what was sent
        except (TimeoutError, aiohttp.ClientError, OSError) as err:
            raise StripeUnanswered(f"Stripe did not answer: {type(err).__name__}") from None
        finally:
            STRIPE_CALLS.labels(name, result).inc()


def has(given: Any, wanted: dict[str, str]) -> bool:
    """Whether something of Stripe's has this metadata."""
    given = given or {}
    return all(str(given.get(name)) == value for name, value in wanted.items())


def _ours(err: stripe.StripeError) -> StripeRefused | StripeUnanswered:
    headers = {name.lower(): value for name, value in (err.headers or {}).items()}
    said = without_keys(f"{err.user_message or type(err).__name__}")
    request = f" ({err.request_id})" if err.request_id else ""
    code = f" {err.code}" if err.code else ""
    text = f"Stripe{code}: {said}{request}"
    if isinstance(err, stripe.IdempotencyError):
        return StripeKeySpent(text)
    if isinstance(err, stripe.AuthenticationError):
        return StripeUnanswered(text, unauthorized=True)
    if isinstance(err, stripe.PermissionError):  # a restricted key may do other things
        return StripeUnanswered(text)
    if isinstance(err, stripe.CardError) or (
        isinstance(err, stripe.InvalidRequestError) and err.http_status in (400, 402, 404)
    ):
        return StripeRefused(text, missing=err.http_status == 404)
    if headers.get("idempotent-replayed") == "true":
        return StripeKeySpent(text)
    return StripeUnanswered(text, _seconds(headers.get("retry-after")))


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\d{1,5}", text) else None
