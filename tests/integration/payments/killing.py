"""Owns a process that works for Stripe and dies at a call.

What must be true after that is the tests'.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from tallyman.domain.stripe_operation import OperationKind
from tallyman.store.stripe_operations import Heard

from tests.integration.payments.conftest import Till


class Killed(BaseException):
    """The process is gone: no handler of ours may do anything more."""


async def work_until_killed(
    till: Till,
    when: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    heard: Mapping[OperationKind, Heard] | None = None,
) -> bool:
    """One look by a process that dies at its nth call, before or after Stripe has done it."""
    process, counted = till.restart(heard), 0
    handle = process.connection._http.request_async

    async def request(*args: Any, **kwargs: Any) -> Any:
        nonlocal counted
        counted += 1
        if when == "before" and counted == number:
            raise Killed
        answer = await handle(*args, **kwargs)
        if when == "after" and counted == number:
            raise Killed
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(process.connection._http, "request_async", request)
        try:
            await process.work()
        except Killed:
            return True
        finally:
            await process.close()
    return False
