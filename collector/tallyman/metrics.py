"""Every Prometheus metric of the collector, declared once; docs/operations.md lists them.

Who raises one is each part's business.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS: Final = Counter(
    "tallyman_events",
    "Events that came in, by what became of them: new, known, conflict, rejected or queued.",
    ["result"],
)
INGEST_SECONDS: Final = Histogram(
    "tallyman_ingest_seconds",
    "Time until a batch of events was durable.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
METER_QUERY_SECONDS: Final = Histogram(
    "tallyman_meter_query_seconds",
    "Time until a meter had answered.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
KONG_LOG_ENTRIES: Final = Counter(
    "tallyman_kong_log_entries",
    "Entries of Kong's http-log, by what became of them: counted, ignored (no LLM call) or bad.",
    ["result"],
)
HTTP_REQUESTS: Final = Counter(
    "tallyman_http_requests",
    "Requests answered, by method, route and status.",
    ["method", "route", "status"],
)
TOO_MANY: Final = Counter(
    "tallyman_too_many",
    "Requests answered 429, by code: too_many_requests (under way) or too_many_subjects (new ones).",
    ["code"],
)
STORE_ERRORS: Final = Counter(
    "tallyman_store_errors",
    "Requests that failed because a store or Kafka did not answer.",
)
UNATTRIBUTED: Final = Gauge(
    "tallyman_unattributed_events",
    "Events of the last 31 days whose subject belongs to no customer, by reason.",
    ["reason"],
)
ENTITLEMENT_REFRESH_SECONDS: Final = Histogram(
    "tallyman_entitlement_refresh_seconds",
    "How long it took to count what is new against the entitlements.",
)
CREDIT_LOOK_SECONDS: Final = Histogram(
    "tallyman_credit_look_seconds", "How long it took to see how much credit is left."
)
CREDIT_TOP_UPS: Final = Counter(
    "tallyman_credit_top_ups", "Top-ups of credit that Stripe was asked for."
)
ENTITLEMENTS_COUNTED_AT: Final = Gauge(
    "tallyman_entitlements_counted_timestamp_seconds",
    "Everything that was stored before this time is counted against the entitlements.",
)
BILLING_RUNS: Final = Counter(
    "tallyman_billing_runs",
    "Billing runs of this server, by how they ended: done or failed.",
    ["result"],
)
BILLING_RUN_SECONDS: Final = Histogram(
    "tallyman_billing_run_seconds",
    "Time until a billing run had ended.",
    buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
)
BILLING_LAST_RUN: Final = Gauge(
    "tallyman_billing_last_run_timestamp_seconds",
    "When the last billing run of this server ended well, in seconds since 1970.",
)
NOT_CORRECTED: Final = Counter(
    "tallyman_not_corrected",
    "Invoiced lines that could not be rated again when billing looked at them: what came late is not billed.",
)
INVOICES: Final = Gauge(
    "tallyman_invoices",
    "Invoices by extended status after the last billing run; those that end in failed or invalid wait for someone.",
    ["status"],
)
STRIPE_CALLS: Final = Counter(
    "tallyman_stripe_calls",
    "Calls to Stripe, by call and how they ended: done, refused, or unanswered (429, 5xx, time-out).",
    ["call", "result"],
)
STRIPE_CALL_SECONDS: Final = Histogram(
    "tallyman_stripe_call_seconds",
    "Time until Stripe had answered, by call.",
    ["call"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
STRIPE_EVENTS: Final = Counter(
    "tallyman_stripe_events",
    "Webhooks of Stripe, by what became of them: new, known, ignored (about nothing of ours) or forged.",
    ["result"],
)
STRIPE_WAITING: Final = Gauge(
    "tallyman_stripe_invoices_waiting",
    "Invoices that wait for Stripe: not yet sent, or with a call that failed and is repeated.",
)
STRIPE_OPERATIONS_WAITING: Final = Gauge(
    "tallyman_stripe_operations_waiting",
    "Credit notes, refunds and top-ups that wait for Stripe: not yet done, or with a call that failed.",
)

ROLLUP_AT: Final = Gauge(
    "tallyman_rollup_timestamp_seconds",
    "Everything that was stored before this time is in the rollup; what is newer meters read from the events.",
)
MISSING: Final = Gauge(
    "tallyman_missing",
    "What the last reconciliation found missing, by kind: lost, missing, refused or forgotten; docs/reconcile.md has what each means.",
    ["kind"],
)
LATE: Final = Gauge(
    "tallyman_late_events",
    "Numbered events that the last reconciliation found to be still on their way.",
)
RECONCILED_AT: Final = Gauge(
    "tallyman_reconciled_timestamp_seconds",
    "When the last reconciliation of this server was done, in seconds since 1970.",
)

ROLLUP_DIFFERING: Final = Gauge(
    "tallyman_rollup_differing_hours",
    "Hours of the rollup that the last reconciliation found to say something else than the events, and put right.",
)

for _result in ("new", "known", "conflict", "rejected", "queued"):
    EVENTS.labels(_result)  # shown as 0 from the start, so that an alert on its rate sees the first
for _code in ("too_many_requests", "too_many_subjects"):
    TOO_MANY.labels(_code)
for _result in ("counted", "ignored", "bad"):
    KONG_LOG_ENTRIES.labels(_result)
for _result in ("done", "failed"):
    BILLING_RUNS.labels(_result)
for _result in ("new", "known", "ignored", "forged"):
    STRIPE_EVENTS.labels(_result)
