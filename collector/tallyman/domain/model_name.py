"""How the names of a call, such as `gpt-4o-2024-08-06` of `openai`, lead to those of a price list.

It knows no price: see `price_book.py`.
"""

import re
from typing import Final

# What the gateway and the price lists call the same seller.
_SAME_PROVIDER: Final = {
    "gemini": "google",
    "google-ai-studio": "google",
    "mistralai": "mistral",
    "cohere_chat": "cohere",
    "bedrock_converse": "bedrock",
    "amazon-bedrock": "bedrock",
    "aws": "bedrock",
    "text-completion-openai": "openai",
    "together": "together_ai",
    "togetherai": "together_ai",
}
_REGION: Final = re.compile(r"^(us-gov|us|eu|apac|jp|au|ca|global)\.(?=[a-z0-9]+\.)")
# When a model was made, or which of its versions it is. Four digits are none of these: of Mistral's
# `-2411` and `-2512` each has a price of its own.
_VERSION: Final = re.compile(
    r"(-v\d+:\d+|@(\d{8}|latest|default)|-\d{4}-\d{2}-\d{2}|-\d{8}|-latest)$"
)
_GOOGLE_VERSION: Final = re.compile(r"-00\d$")


def provider_key(name: str) -> str:
    """The name under which all names of a provider are one: `gemini` is google."""
    lower = name.strip().lower()
    if lower.startswith("vertex_ai-"):  # LiteLLM has one for each maker
        return "vertex_ai"
    return _SAME_PROVIDER.get(lower, lower)


def model_keys(provider: str, model: str) -> tuple[str, ...]:
    """The names that a model may have on a list, the nearest first.

    First as it is; then without what says by whom it is sold (`openai/…`, `models/…`, `us.…`), and
    without what says when it was made (`-2024-08-06`, `-20241022`, `-v2:0`, `-latest`).
    """
    seller = provider_key(provider)
    name = model.strip().lower()
    found = [name]
    while "/" in name:
        first, rest = name.split("/", 1)
        if first != "models" and provider_key(first) != seller:
            break
        found.append(name := rest)
    if seller == "bedrock":
        found.append(name := _REGION.sub("", name))
    while (shorter := _without_version(seller, name)) != name:
        found.append(name := shorter)
    return tuple(dict.fromkeys(key for key in found if key))


def _without_version(seller: str, name: str) -> str:
    shorter = _VERSION.sub("", name)
    return _GOOGLE_VERSION.sub("", shorter) if seller == "google" else shorter
