"""The Kong plugin `tallyman`: counts the tokens of each LLM call in the log phase."""

__version__ = "0.1.0"
