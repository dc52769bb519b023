from collections.abc import Sequence

FORMAT: int

def read(
    namespace: str,
    messages: Sequence[bytes],
    doors: Sequence[str],
    places: Sequence[int],
    moments_ms: Sequence[int],
) -> tuple[list[int], list[str], bytes, list[int], bytes]: ...
