"""The fonts of PDFs, and which of them has a character.

It shapes nothing: scripts whose letters join or reorder are not among them.
"""

from functools import cache
from importlib.resources import as_file, files
from itertools import groupby
from typing import Final
from xml.sax.saxutils import escape

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR: Final = "NotoSans-Regular"
BOLD: Final = "NotoSans-Bold"
FALLBACK: Final = "DroidSansFallback"  # Chinese, Japanese and Korean; it has no bold
_MISSING: Final = "\N{REPLACEMENT CHARACTER}"


@cache
def _font(name: str) -> TTFont:
    """The font, registered; the large one is read when it is first needed."""
    with as_file(files("tallyman.console") / "fonts" / f"{name}.ttf") as path:
        font = TTFont(name, path)
    pdfmetrics.registerFont(font)
    return font


def marked_up(text: str, font: str = REGULAR) -> str:
    """The text for a paragraph, each part in a font that has it.

    What no font has is the replacement character, so that it is seen that something is missing.
    """
    _font(REGULAR), _font(BOLD)
    parts = []
    for name, characters in groupby(text, key=lambda character: _font_for(character, font)):
        run = "".join(characters)
        if name is None:
            name, run = font, _MISSING * len(run)
        parts.append(f'<font name="{name}">{escape(run)}</font>')
    return "".join(parts)


def _font_for(character: str, preferred: str) -> str | None:
    code = ord(character)
    for name in (preferred, FALLBACK):
        if code in _font(name).face.charToGlyph:
            return name
        if code < 0x1100:  # the first of the fallback's: it need not be read
            return None
    return None
