"""The tables of what models cost, and of prices that wait for a decision."""

from sqlalchemy import JSON, Column, Index, String, Table

from tallyman.store.tables.columns import UtcDateTime, metadata, text

# What models cost: of the lists (`system`), and overrides (`manual`). Rows are ended, not changed.
llm_prices = Table(
    "llm_prices",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("provider_id", text(), nullable=False),
    Column("provider_name", text(), nullable=False),
    Column("model_id", text(), nullable=False),
    Column("model_name", text(), nullable=False),
    Column("pricing", JSON, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("source", String(8), nullable=False),
    Column("origin", text(), nullable=False),
    Column("effective_from", UtcDateTime, nullable=False),
    Column("effective_to", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime),
)
Index("llm_prices_of_namespace", llm_prices.c.namespace, llm_prices.c.model_id)

# Prices that contradict the one in force, until someone decides.
held_llm_prices = Table(
    "held_llm_prices",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("namespace", text(), nullable=False),
    Column("offered", JSON, nullable=False),
    Column("origin", text(), nullable=False),
    Column("in_force", String(26), nullable=False),
    Column("state", String(8), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    Column("decided_by", text()),
)
Index("held_llm_prices_of_namespace", held_llm_prices.c.namespace, held_llm_prices.c.state)
