"""HTML in texts of a catalogue: `&amp;`, `&#39;` and tags that shops export with their titles."""

from __future__ import annotations

import html
import html.entities
import re
from collections.abc import Callable
from typing import Any

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_HIDDEN = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(
    r"<!--.*?-->|</?(?:a|b|big|blockquote|body|br|center|code|dd|div|dl|dt|em|font|h[1-6]|head|hr"
    r"|html|i|iframe|img|input|li|link|meta|noscript|ol|p|pre|script|section|small|span|strong|style"
    r"|sub|sup|table|tbody|td|tfoot|th|thead|tr|tt|u|ul)\b[^<>]*>",
    re.IGNORECASE | re.DOTALL,
)
_BEFORE_STOP = re.compile(r" *\0[ \0]*(?=[.,;:!?])")
_BETWEEN = re.compile(r" *\0[ \0]*")
_AT_END = re.compile(r"^ | $")
"""What is left of tags, each a NUL: a blank, but not before a stop or at an end."""

_MOST_TIMES = 4


def has_entities(text: str) -> bool:
    """Whether a text holds an HTML entity, such as `&amp;` or `&#39;`."""
    return any(map(_is_known, _ENTITY.findall(text)))


def unescaped(text: str) -> str:
    """A text with its HTML entities decoded, also those that were escaped several times.

    An entity ends with a semicolon. `html.unescape` also takes those without one, which
    damages addresses such as `?a=1&copy=2`.

    Example:
        >>> unescaped("Salt &amp;amp; Pepper, 5&quot;, R&D, ?a=1&copy=2")
        'Salt & Pepper, 5", R&D, ?a=1&copy=2'
    """
    for _ in range(_MOST_TIMES):
        decoded = _ENTITY.sub(_decoded, text) if "&" in text else text
        if decoded == text:
            break
        text = decoded
    return text


def plain(text: str) -> str:
    """A text without HTML: entities decoded, tags of HTML and what scripts hold taken out.

    Example:
        >>> plain("Soap &amp; Co<br/>for <b>hair</b>, &lt;i&gt;5 < 6&lt;/i&gt;")
        'Soap & Co for hair, 5 < 6'
    """
    text = unescaped(text)
    if "<" not in text:
        return text
    bare = _TAG.sub("\0", _HIDDEN.sub("\0", text))
    return text if bare == text else _AT_END.sub("", _BETWEEN.sub(" ", _BEFORE_STOP.sub("", bare)))


def text_with_entities(value: Any) -> str | None:
    """The first text in a catalogue value, in lists and objects too, that holds an entity."""
    if isinstance(value, str):
        return value if has_entities(value) else None
    if not isinstance(value, (list, tuple, dict)) or _is_vector(value):
        return None
    parts = value.values() if isinstance(value, dict) else value
    return next(filter(None, map(text_with_entities, parts)), None)


def in_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A catalogue value with every text in it changed, in lists and objects too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)):
        return value if _is_vector(value) else [in_texts(part, change) for part in value]
    if isinstance(value, dict):
        return {name: in_texts(part, change) for name, part in value.items()}
    return value


def _is_vector(value: Any) -> bool:
    """Whether a list begins with a number: a vector is long and holds no text."""
    return isinstance(value, (list, tuple)) and isinstance(next(iter(value), ""), (int, float))


def _is_known(entity: str) -> bool:
    return entity[1] == "#" or entity[1:] in html.entities.html5


def _decoded(found: re.Match[str]) -> str:
    return html.unescape(found[0]) if _is_known(found[0]) else found[0]
