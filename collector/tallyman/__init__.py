"""The collector: takes usage events, stores them once, and answers what was used."""

__version__ = "0.1.0"
