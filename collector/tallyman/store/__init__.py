"""What is kept: events in ClickHouse (chDB embedded), everything else in SQLite or Postgres."""
