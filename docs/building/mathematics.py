"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, no network."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

__all__ = ["with_mathml"]

FORMULA = re.compile(r'<(span|div) class="arithmatex">(\\\(|\\\[)(.*?)(\\\)|\\\])</\1>', re.DOTALL)
WORDS = re.compile(r"\\(?:mathrm|operatorname)\{([A-Za-z ]{2,})\}")


def with_mathml(page: str) -> str:
    r"""Replace each formula that arithmatex marked in a page's HTML.

    Args:
        page: HTML, in which formulas stand as LaTeX between ``\(`` and ``\)`` or ``\[`` and ``\]``.

    Raises:
        ValueError: If something in a formula is not understood, such as an environment.

    Example:
        >>> with_mathml('<span class="arithmatex">\\(x\\)</span>')[-30:]
        '<mrow><mi>x</mi></mrow></math>'
    """
    return FORMULA.sub(lambda found: _mathml(html.unescape(found[3]), is_block=found[1] == "div"), page)


def _mathml(latex: str, *, is_block: bool) -> str:
    # \mathrm would be drawn letter by letter, and ~ as the character that it is in LaTeX's source
    written = WORDS.sub(r"\\text{\1}", latex).replace(r"\lVert", r"\|").replace(r"\rVert", r"\|")
    mathml = convert(" ".join(written.split()), display="block" if is_block else "inline")
    if "&amp;" in mathml or "\\" in mathml:
        raise ValueError(f"formula: got {latex}, of which something is not understood; split and cases are.")
    return mathml
