"""The page in headless Chromium, from a file, as a reader opens it."""

from __future__ import annotations

import pathlib
import re

import pytest
from markupsafe import escape

from tests.report.conftest import CODES, TITLE

pytestmark = pytest.mark.timeout(120)

PHONE = {"viewport": {"width": 360, "height": 740}}

_BROKEN_PICTURES = """() => Promise.all([...document.images].map((i) => i.decode())).then(
    () => [document.images.length, [...document.images].filter((i) => !i.naturalWidth).length])"""

_OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter((e) =>
    e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".strip, .scroll, nav ul, pre"))
    .map((e) => e.outerHTML.slice(0, 80))"""

_CONTRASTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const probe = document.body.appendChild(document.createElement("i"));
  const value = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const found = {};
  for (const [fore, back] of [["--ink", "--page"], ["--ink", "--card"], ["--soft", "--page"],
      ["--soft", "--card"], ["--c1", "--card"], ["--on-hit", "--hit"], ["--c2", "--card"]]) {
    const [a, b] = [light(value(fore)), light(value(back))].sort((x, y) => y - x);
    found[`${fore} on ${back}`] = (a + 0.05) / (b + 0.05);
  }
  probe.remove();
  return found;
}"""


@pytest.fixture(params=["page", "page_of_two"])
def any_page(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("options", [{}, {**PHONE, "color_scheme": "dark"}], ids=["wide", "phone"])
def test_opens_from_a_file_without_network_or_complaint(visit, any_page, options):
    visited = visit(any_page, **options)
    pictures, broken = visited.tab.evaluate(_BROKEN_PICTURES)
    assert pictures > 20 and broken == 0
    asked = [url for url in visited.requests if not url.startswith("data:")]
    assert asked == [f"file://{any_page}"]
    assert visited.complaints == []
    assert visited.tab.get_by_text(TITLE, exact=True).count() > 20


def test_nothing_is_wider_than_a_phone(visit, any_page):
    tab = visit(any_page, **PHONE).tab
    for details in tab.query_selector_all("details"):
        details.evaluate("e => e.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert tab.evaluate(_OVERFLOWING) == []


def test_an_item_without_a_picture_shows_a_long_word_whole_and_has_a_name(visit, page):
    tab = visit(page, **PHONE).tab
    fits, named = tab.evaluate(
        """() => {
          const number = Object.keys(items)[0];
          items[number] = { title: "Donaudampfschifffahrtsgesellschaft", picture: null };
          const made = tile(number);
          document.querySelector(".pair").append(made);
          const cover = made.querySelector(".cover").getBoundingClientRect();
          const word = document.createRange();
          word.selectNodeContents(made.querySelector(".cover span"));
          const boxes = [...word.getClientRects()];
          return [
            boxes.length > 1 && boxes.every((b) => b.left >= cover.left && b.right <= cover.right),
            getComputedStyle(made.querySelector(".title")).display !== "none",
          ];
        }"""
    )
    assert fits and named


@pytest.mark.parametrize("options", [{}, {**PHONE, "color_scheme": "dark"}], ids=["wide", "phone"])
def test_without_pictures_lists_are_rows_of_whole_titles(visit, page, tmp_path, options):
    title = "Camouflage Concealer, Donaudampfschifffahrtsgesellschaft Edition, " * 4
    html = pathlib.Path(page).read_text(encoding="utf-8")
    html = re.sub(r'"picture": "[^"]*"', '"picture": null', html)
    html = html.replace(str(escape(TITLE)), title).replace("<body>", '<body class="rows">')
    path = tmp_path / "index.html"
    path.write_text(html, encoding="utf-8")
    tab = visit(str(path), **options).tab
    assert tab.locator(".cover").count() == tab.locator("img").count() == 0
    cut, beside, lists = tab.evaluate(
        """() => {
          const titles = [...document.querySelectorAll(".tile .title")];
          const tiles = [...document.querySelectorAll(".strip .tile")];
          return [
            titles.filter((e) => e.scrollHeight > e.clientHeight + 1 || !e.clientHeight
              || e.scrollWidth > e.clientWidth + 1).length,
            tiles.filter((e) => e.nextElementSibling && e.nextElementSibling
              .getBoundingClientRect().top < e.getBoundingClientRect().bottom - 1).length,
            document.querySelectorAll(".strip").length,
          ];
        }"""
    )
    assert (cut, beside) == (0, 0) and lists > 6
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_code_is_reached_by_keyboard(visit, page):
    tab = visit(page).tab
    tab.locator(".explorer input:checked").focus()
    seen = []
    for _ in range(CODES):
        seen.append(tab.locator(".chosen h4").inner_text().split()[1])
        assert tab.locator(".chosen .column").count() == 8
        assert tab.evaluate(
            "getComputedStyle(document.activeElement.parentElement).outlineStyle"
        ) == ("solid")
        tab.keyboard.press("ArrowRight")
    assert sorted(map(int, seen)) == list(range(CODES))
    tab.keyboard.press("End")
    assert tab.locator(".chosen h4").inner_text().split()[1] == seen[-1]
    tab.keyboard.press("Home")
    assert tab.locator(".chosen h4").inner_text().split()[1] == seen[0]


def test_down_goes_to_the_next_row_of_codes(visit, page):
    tab = visit(page, **PHONE).tab
    tab.locator(".explorer input:checked").focus()
    tops = "[...document.querySelectorAll('.code')].map((e) => e.offsetTop)"
    columns = tab.evaluate(f"{tops}.filter((top, _, all) => top === all[0]).length")
    assert 1 < columns < CODES, "the six codes must not fit into one row"
    tab.keyboard.press("ArrowDown")
    assert tab.locator(".explorer input:checked").get_attribute("value") == str(columns)
    tab.keyboard.press("ArrowUp")
    assert tab.locator(".explorer input:checked").get_attribute("value") == "0"


def test_light_and_dark_are_both_readable(visit, page):
    colours = []
    for scheme in ("light", "dark"):
        tab = visit(page, color_scheme=scheme).tab
        low = {pair: c for pair, c in tab.evaluate(_CONTRASTS).items() if c < 4.5}
        assert not low
        colours.append(
            tab.evaluate(
                "['body', '.card', '.plot svg path[style*=\"var(--c1)\"]'].map((s) => {"
                "const c = getComputedStyle(document.querySelector(s));"
                "return [c.backgroundColor, c.color, c.stroke, c.fill].join(); })"
            )
        )
    assert all(light != dark for light, dark in zip(*colours, strict=True))


def test_everything_that_takes_focus_or_is_a_plot_has_a_name(visit, page_of_two):
    tab = visit(page_of_two, reduced_motion="reduce").tab
    nameless = tab.evaluate(
        "[...document.querySelectorAll('[tabindex]:not(pre), input, nav, svg[role]')]"
        ".filter((e) => !e.getAttribute('aria-label')).length"
    )
    assert nameless == 0
    assert tab.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.locator(".skip").bounding_box()["width"] > 50
