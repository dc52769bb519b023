"""Alembic's migrations of the relational tables; one that is out is never edited."""
