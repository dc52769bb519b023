"""`tallyman demo`: recorded gateway traffic through the real plugin server into token meters."""
