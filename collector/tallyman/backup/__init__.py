"""Backups of an embedded collector's directory: taken while it runs, and restored whole or not at all."""
