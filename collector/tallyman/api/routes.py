"""The route table: every path, who may call it, its handler, and what its document says.

The router and the OpenAPI document are both made from it, so they cannot differ.
"""

from typing import Final

from tallyman.api import (
    audit_log,
    billing_routes,
    billing_runs,
    catalogue_routes,
    consumer_usage,
    credit_note_routes,
    credit_routes,
    customer_routes,
    documentation,
    entitlement_grant_routes,
    event_changes,
    events,
    health,
    invoice_lines,
    kong_log,
    llm_price_routes,
    meter_query,
    meters,
    payment_routes,
    reconciliation,
    statements,
    status,
    subscription_routes,
    test_clocks,
)
from tallyman.api.consumer_usage_bodies import ConsumerUsageAnswer
from tallyman.api.event_bodies import EventChangeAnswer, EventPageAnswer
from tallyman.api.explanation_bodies import InvoiceLinesAnswer, LineUsageAnswer
from tallyman.api.kong_log import KongLogAnswer
from tallyman.api.meter_bodies import (
    CreateMeterRequest,
    MeterAnswer,
    MeterPage,
    MeterQueryRequest,
    MeterQueryResult,
    UpdateMeterRequest,
)
from tallyman.api.route import JSON, Answered, Route
from tallyman.api.status import StatusAnswer
from tallyman.domain.access import Scope
from tallyman.domain.event import CloudEvent
from tallyman.stream.reconcile_report import Report

TEXT: Final = {"type": "string"}
METER: Final = {JSON: MeterAnswer}
ENTRY: Final = {"type": "object", "description": "An entry as Kong serialises it."}

ROUTES: Final = (
    Route(
        "POST", "/events", events.ingest, Scope.INGEST,
        "ingest-metering-events", "Take in events",
        Answered(202, "Every event is durable."),
        "One event, or a batch by its content type. An event whose source and id are known is "
        "dropped. Of a batch with a bad event none is taken, and every bad one is named. "
        "`Tallyman-New`, `Tallyman-Known` and `Tallyman-Conflicts` say what became of them, where "
        "events do not go through Kafka.",
        body={
            events.ONE: CloudEvent,
            events.BATCH: list[CloudEvent],
            JSON: CloudEvent | list[CloudEvent],
        },
        problems=(413, 429),
    ),
    Route(
        "GET", "/events", events.list_, Scope.READ,
        "list-metering-events", "List events",
        Answered(200, "A page of events.", {JSON: EventPageAnswer}),
        parameters=events.LIST,
    ),
    Route(
        "POST", "/events/void", event_changes.void, Scope.ADMIN,
        "void-metering-event", "Void an event",
        Answered(200, "The change.", {JSON: EventChangeAnswer}),
        "The event counts for nothing from now on, and stays. Meters and open invoices follow; the "
        "next invoice corrects those that are final. An event that is voided already stays so.",
        body={JSON: event_changes.VoidEventRequest}, problems=(404, 409, 413),
    ),
    Route(
        "POST", "/events/amend", event_changes.amend, Scope.ADMIN,
        "amend-metering-event", "Amend an event",
        Answered(200, "The change.", {JSON: EventChangeAnswer}),
        "As voiding it and sending another in its place, with its id, type and time.",
        body={JSON: event_changes.AmendEventRequest}, problems=(404, 409, 413),
    ),
    Route(
        "POST", "/meters", meters.create, Scope.ADMIN,
        "create-meter", "Make a meter",
        Answered(201, "The meter.", METER),
        "It answers for events that are stored already too.",
        body={JSON: CreateMeterRequest}, problems=(409, 413),
    ),
    Route(
        "GET", "/meters", meters.list_, Scope.READ,
        "list-meters", "List meters",
        Answered(200, "A page of meters.", {JSON: MeterPage}),
        parameters=meters.LIST,
    ),
    Route(
        "GET", "/meters/{meterId}", meters.get, Scope.READ,
        "get-meter", "Read a meter",
        Answered(200, "The meter.", METER), problems=(404, 410),
    ),
    Route(
        "PUT", "/meters/{meterId}", meters.update, Scope.ADMIN,
        "update-meter", "Change a meter",
        Answered(200, "The meter.", METER),
        "What is absent stays as it is. A built-in meter cannot be changed.",
        body={JSON: UpdateMeterRequest}, problems=(404, 409, 410, 413),
    ),
    Route(
        "DELETE", "/meters/{meterId}", meters.delete, Scope.ADMIN,
        "delete-meter", "Delete a meter",
        Answered(204, "It is deleted; its events stay, and its key is free."),
        "A built-in meter cannot be deleted.",
        problems=(404, 409, 410),
    ),
    Route(
        "POST", "/meters/{meterId}/query", meter_query.query, Scope.READ,
        "query-meter", "Ask a meter",
        Answered(200, "The values.", {JSON: MeterQueryResult, meter_query.CSV: TEXT}),
        "CSV with `Accept: text/csv`.",
        body={JSON: MeterQueryRequest}, body_required=False, problems=(404, 410, 413),
    ),
    *catalogue_routes.ROUTES,
    *llm_price_routes.ROUTES,
    *customer_routes.ROUTES,
    *credit_routes.ROUTES,
    *subscription_routes.ROUTES,
    *entitlement_grant_routes.ROUTES,
    *billing_routes.ROUTES,
    *credit_note_routes.ROUTES,
    *payment_routes.ROUTES,
    *test_clocks.ROUTES,
    *audit_log.ROUTES,
    Route(
        "POST", "/kong/log", kong_log.take, Scope.INGEST,
        "take-kong-log", "Take in entries of Kong's http-log",
        Answered(200, "What became of the entries.", {JSON: KongLogAnswer}),
        "One entry or an array. A bad entry is counted and logged, and does not keep its "
        "neighbours out.",
        body={JSON: {"anyOf": [ENTRY, {"type": "array", "description": "Entries."}]}},
        problems=(413, 429), openmeter=False,
    ),
    Route(
        "GET", "/api/usage", consumer_usage.get, Scope.READ,
        "consumer-usage", "This period's usage of a consumer",
        Answered(200, "The usage.", {JSON: ConsumerUsageAnswer}),
        "By model and type. Behind the gateway's authentication the consumer that asks is the "
        "one that is answered about; otherwise `subject` names it.",
        parameters=consumer_usage.UsageParameters(), openmeter=False,
    ),
    Route(
        "POST", "/api/v1/billing/run", billing_runs.bill, Scope.BILLING,
        "run-billing", "Bill everything that is due",
        Answered(200, "A line of JSON for each step, the last one with the outcome.",
                 billing_runs.RUN),
        "One run bills everything due, and any number of runs at once bill it once.",
        body={JSON: billing_runs.BillingRunRequest}, openmeter=False, problems=(404,),
    ),
    Route(
        "GET", "/api/v1/billing/customers/{customerId}/preview", billing_runs.shown, Scope.READ,
        "preview-customer", "What is not yet billed, by model and type",
        Answered(200, "A table for each currency.", billing_runs.PREVIEW),
        openmeter=False, problems=(404, 410),
    ),
    Route(
        "POST", "/api/v1/reconciliation", reconciliation.run, Scope.ADMIN,
        "reconcile", "What is missing, of every namespace",
        Answered(200, "The report.", {JSON: Report}),
        "For the commands of the server's own machine, over its local socket; no key can ask.",
        body={JSON: reconciliation.ReconcileRequest}, openmeter=False, problems=(404,),
    ),
    Route(
        "POST", "/api/v1/reconciliation/query", reconciliation.stored, Scope.READ,
        "reconcile-events", "Whether events are stored",
        Answered(200, "For each event, in order.", {JSON: reconciliation.StoredAnswer}),
        "By type, subject, time, source and id; an event without a time is not looked for.",
        body={JSON: list[CloudEvent]}, openmeter=False, problems=(413,),
    ),
    Route(
        "GET", "/billing/invoices/{invoiceId}/lines", invoice_lines.list_, Scope.READ,
        "check-invoice", "The lines of an invoice, each counted again",
        Answered(200, "The lines.", {JSON: InvoiceLinesAnswer}), problems=(404,),
    ),
    Route(
        "GET", "/billing/invoices/{invoiceId}/lines/{lineId}/usage", invoice_lines.usage, Scope.READ,
        "explain-invoice-line", "What is behind an invoice line",
        Answered(200, "The line taken apart.", {JSON: LineUsageAnswer}),
        "From the amount to the price, the tiers, the quantity, the hours and a page of the events, "
        "as they were known when the invoice was counted. `check` says whether they are the line.",
        parameters=invoice_lines.EVENTS, problems=(404,),
    ),
    Route(
        "GET", "/api/v1/billing/customers/{customerId}/statement", statements.get, Scope.READ,
        "usage-statement", "A customer's month, event by event, in a chain of hashes",
        Answered(200, "A line of JSON for each event, each with its hash.",
                 {statements.LINES: {"type": "object"}}),
        "`tallyman check-statement FILE` checks that it is whole and unchanged.",
        parameters=statements.StatementParameters(), openmeter=False, problems=(404, 410),
    ),
    Route(
        "GET", "/api/v1/status", status.get, Scope.READ,
        "status", "What runs, what is stored, and what waits",
        Answered(200, "The status.", {JSON: StatusAnswer}), openmeter=False,
    ),
    Route(
        "GET", "/healthz", health.alive, None,
        "alive", "Whether the process answers",
        Answered(200, "It does.", {JSON: {"type": "object"}}), openmeter=False,
    ),
    Route(
        "GET", "/readyz", health.ready, None,
        "ready", "Whether the stores answer",
        Answered(200, "They do.", {JSON: {"type": "object"}}), openmeter=False,
    ),
    Route(
        "GET", "/metrics", health.prometheus, Scope.READ,
        "metrics", "Prometheus metrics",
        Answered(200, "The metrics.", {"text/plain": TEXT}), openmeter=False, basic=True,
    ),
    Route(
        "GET", "/openapi.json", documentation.openapi, Scope.READ,
        "openapi", "This document",
        Answered(200, "The document.", {JSON: {"type": "object"}}), openmeter=False, basic=True,
    ),
    Route(
        "GET", "/docs", documentation.page, Scope.READ,
        "documentation", "A page to read this document",
        Answered(200, "The page.", {"text/html": TEXT}), openmeter=False, basic=True,
    ),
    Route(
        "GET", "/docs/{file}", documentation.page_file, Scope.READ,
        "documentation-file", "A file of the page",
        Answered(
            200,
            "The file.",
            {"text/css": TEXT, "text/javascript": TEXT, "image/png": {}},
        ),
        problems=(404,), openmeter=False, basic=True,
    ),
)  # fmt: skip
