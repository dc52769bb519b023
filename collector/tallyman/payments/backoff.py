"""How long is waited for Stripe before a call is repeated. Pure."""

from datetime import timedelta
from typing import Final

from tallyman.errors import StripeRefused, StripeUnanswered

FIRST_WAIT: Final = timedelta(seconds=5)
LONGEST_WAIT: Final = timedelta(hours=1)


def wait_after(failures: int, err: StripeUnanswered | StripeRefused) -> timedelta:
    """Twice as long each time, and as long as Stripe says."""
    wait: timedelta = min(FIRST_WAIT * (1 << min(failures, 20)), LONGEST_WAIT)
    if isinstance(err, StripeRefused) or err.after_seconds is None:
        return wait
    return max(wait, timedelta(seconds=err.after_seconds))
