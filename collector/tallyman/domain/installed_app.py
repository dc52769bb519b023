"""An app as a namespace has it: its name, and where its invoices wait for it.

What each app does is `billing/`'s and `payments/`'s.
"""

from dataclasses import dataclass, field
from datetime import datetime

from tallyman.domain.billing_profile import App


@dataclass(frozen=True)
class InstalledApp:
    """`waits_in_draft` and `waits_to_issue` are of external invoicing: see `Workflow`."""

    namespace: str
    app: App
    name: str
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    waits_in_draft: bool = False
    waits_to_issue: bool = False
