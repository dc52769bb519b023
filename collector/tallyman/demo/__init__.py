"""`tallyman demo`: recorded gateway traffic through the real plugin server, up to an invoice."""
