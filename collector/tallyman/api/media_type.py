"""Which of several forms of an answer the client prefers."""

from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type that `Accept` names with the highest quality; of equals the first offered.

    Wildcards prefer nothing.
    """
    qualities = dict.fromkeys(offered, 0.0)
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if media_type in qualities and quality.replace(".", "", 1).isdigit():
            qualities[media_type] = float(quality)
    return max(offered, key=lambda media_type: qualities[media_type])
