"""HTML in texts: what is decoded, and what only looks like it."""

from __future__ import annotations

import pytest

from kdsr_tf.sources.html_text import has_entities, plain, unescaped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Salt &amp; Pepper", "Salt & Pepper"),
        ("It&#39;s 5&quot;", "It's 5\""),
        ("&#x27;&#X27;&frac12;&Prime;", "''½″"),
        ("twice &amp;quot;, three times &amp;amp;lt;", 'twice ", three times <'),
        ("a&nbsp;b", "a\xa0b"),
    ],
)
def test_entities_are_decoded(text, expected):
    assert has_entities(text) and unescaped(text) == expected
    assert not has_entities(expected)


@pytest.mark.parametrize(
    "text", ["R&D", "AT&T; 1", "a & b;", "?a=1&copy=2", "&notit;", "&#;", "&#xg;", "&" + "a" * 50]
)
def test_an_ampersand_is_not_an_entity(text):
    assert not has_entities(text) and unescaped(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<span class="a-size">Comb</span>', "Comb"),
        ("One.<br>Two.<BR/>Three", "One. Two. Three"),
        ("<p>A <b>gentle</b>, mild soap.</p>", "A gentle, mild soap."),
        ("Comb<style>.a{b:c}</style><script>var x = '<p>';</script>", "Comb"),
        ("&lt;li&gt;Mild&lt;/li&gt;", "Mild"),
        ("I <3 you , 5 < 6 > 4, size<Large, <Title>", "I <3 you , 5 < 6 > 4, size<Large, <Title>"),
    ],
)
def test_tags_are_taken_out_and_nothing_else(text, expected):
    assert plain(text).strip() == expected
