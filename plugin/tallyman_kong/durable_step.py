"""Names each step after which something is on disk or acknowledged, so that a test can kill us there.

Without the environment variable KONG_TALLYMAN_FAULT a step is the plain function, and costs nothing.
The collector names its steps here too. `tests/faults` sweeps all of them.
"""

import inspect
import os
import signal
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

VARIABLE = (
    "KONG_TALLYMAN_FAULT"  # `before|after:STEP:NUMBER`, or `armed` for a test that calls `arm`
)

F = TypeVar("F", bound=Callable[..., Any])

reached: Counter[str] = Counter()  # by `before|after:STEP`
_asked = os.environ.get(VARIABLE, "")
_fault = _asked if ":" in _asked else ""


def durable(name: str) -> Callable[[F], F]:
    """Name a function, async or not, as a durable step; a name is one function's."""

    def decorate(function: F) -> F:
        if not _asked:
            return function
        wrapper: Any
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                _pass("before", name)
                result = await function(*args, **kwargs)
                _pass("after", name)
                return result
        else:

            @wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                _pass("before", name)
                result = function(*args, **kwargs)
                _pass("after", name)
                return result

        return wrapper  # type: ignore[no-any-return]  # the same signature

    return decorate


def arm(fault: str) -> None:
    """Be killed at `before|after:STEP:NUMBER`, counted from now on; nowhere if empty."""
    global _fault
    _fault = fault
    reached.clear()


def _pass(when: str, name: str) -> None:
    reached[f"{when}:{name}"] += 1
    if _fault == f"{when}:{name}:{reached[f'{when}:{name}']}":
        os.kill(os.getpid(), signal.SIGKILL)
