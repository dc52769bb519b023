"""Payments: invoices sent to Stripe, collected, and what became of them."""
