"""The report in a browser: with mouse and keyboard, on a phone, in dark mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from padim_dist.pages.data import ReportData
from padim_dist.pages.html import render
from tests.pages.samples import HOSTILE, anomaly, hostile, many_groups, sample

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
sync_api = pytest.importorskip("playwright.sync_api", reason="SKIPPED PART: no playwright")
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(),
    reason=f"SKIPPED PART: no browser at {CHROMIUM} (Debian: apt-get install chromium)",
)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def open_report(browser, tmp_path) -> Iterator[Open]:
    """Return a function that opens reports; none may log, request or open a dialog."""
    trouble: list[str] = []
    contexts = []

    def open_(data: ReportData, width: int = 1400, scheme: str = "light") -> Any:
        path = tmp_path / f"report-{len(contexts)}.html"
        path.write_text(render(data, "0.0"), encoding="utf-8")
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        )
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (trouble.append("dialog"), dialog.dismiss()))

        def asked(request: Any) -> None:
            if request.url != path.as_uri() and not request.url.startswith("data:"):
                trouble.append(f"request: {request.url}")

        page.on("request", asked)
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert trouble == []


def names(page: Any) -> list[str]:
    """Return the names of the shown images, in order."""
    return page.locator(".card:not([hidden]) .name").all_text_contents()


def focused(page: Any) -> str | None:
    """Return the id of the focused element; for an image, the label of its button."""
    return page.evaluate("document.activeElement.id || document.activeElement.ariaLabel")


def test_sorting(open_report):
    data = sample()
    page = open_report(data)

    def expected(key: Callable[[Any], Any]) -> list[str]:
        return [item.name for item in sorted(data.anomalies, key=key)]

    assert names(page) == expected(lambda item: item.row.p_value)
    page.get_by_label("Sort by").select_option("score")
    assert names(page) == expected(lambda item: -item.row.score)
    page.get_by_label("Sort by").select_option("name")
    # Natural order: img10 comes after img9.
    assert names(page) == expected(lambda item: (item.row.group, int(item.name[3:-4])))
    page.get_by_label("Sort by").select_option("group")
    assert names(page) == expected(lambda item: (item.row.group, -item.row.score))


def test_filtering(open_report):
    page = open_report(sample())
    shown = page.locator("#shown")
    assert shown.inner_text() == "12 of 12 shown"
    assert shown.get_attribute("aria-live") == "polite"
    page.get_by_label("Search").fill("CAM-1 img1")
    assert sorted(names(page)) == ["img1.jpg", "img11.jpg"]
    assert shown.inner_text() == "2 of 12 shown"
    page.get_by_label("Search").fill("")
    page.locator("#group").select_option("cam-0")
    assert len(names(page)) == 6
    page.get_by_label("Flagged only").check()
    assert sorted(names(page)) == ["img0.jpg", "img2.jpg"]
    page.get_by_label("Search").fill("nothing like it")
    assert names(page) == []
    assert page.get_by_text("No images match").is_visible()
    assert shown.inner_text() == "0 of 12 shown"


@pytest.mark.parametrize(("flagged", "left"), [(False, 0), (True, 12)])
def test_filtering_when_none_or_all_are_flagged(open_report, flagged, left):
    items = [anomaly(i, flagged=flagged) for i in range(12)]
    page = open_report(sample(anomalies=items))
    page.get_by_label("Flagged only").check()
    assert len(names(page)) == left


def test_without_calibration_sorting_is_by_score(open_report):
    blank = {"p_value": None, "p_extrapolated": None, "flagged": None}
    items = [anomaly(i, **blank) for i in range(5)]
    page = open_report(sample(anomalies=items, alarms=None))
    assert names(page) == [f"img{i}.jpg" for i in range(5)]
    assert page.get_by_label("Flagged only").is_disabled()


def test_one_image_by_mouse(open_report):
    page = open_report(sample())
    dialog = page.locator("#dialog")
    assert not dialog.is_visible()
    page.get_by_label("Sort by").select_option("score")
    page.locator(".card button").nth(1).click()
    assert dialog.get_by_role("heading", name="img1.jpg").is_visible()
    details = dialog.inner_text()
    assert "/data/photos/cam-1/img1.jpg" in details
    assert "39.00, peak at y 40, x 30" in details
    assert "below the resolution of the calibration sample" in details
    assert dialog.locator("#details tbody tr").inner_text().split() == [
        "30–49", "20–43", "320", "39.00", "0.0001",
    ]  # fmt: skip
    page.get_by_role("button", name="Next").click()
    assert dialog.get_by_role("heading", name="img2.jpg").is_visible()
    for _ in range(2):
        page.get_by_role("button", name="Previous").click()
    assert dialog.get_by_role("heading", name="img0.jpg").is_visible()
    assert page.get_by_role("button", name="Previous").is_disabled()
    assert dialog.locator("#place").inner_text() == "1 of 12"
    page.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_one_image_by_keyboard(open_report):
    page = open_report(sample())
    page.get_by_label("Sort by").select_option("score")
    page.evaluate("document.activeElement.blur()")
    for _ in range(60):
        page.keyboard.press("Tab")
        if str(focused(page)).startswith("img0.jpg"):
            break
    assert focused(page) == "img0.jpg, score 40.00: open"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    heading = page.locator("#details h2")
    assert heading.inner_text() == "img0.jpg"
    page.keyboard.press("ArrowLeft")
    assert heading.inner_text() == "img0.jpg"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert heading.inner_text() == "img2.jpg"
    page.keyboard.press("Escape")
    assert not page.locator("#dialog").is_visible()
    assert focused(page) == "img2.jpg, score 38.00: open"


def test_next_is_among_those_shown(open_report):
    page = open_report(sample())
    page.get_by_label("Sort by").select_option("score")
    page.locator("#group").select_option("cam-1")
    page.locator(".card:visible button").first.click()
    page.keyboard.press("ArrowRight")
    assert page.locator("#details h2").inner_text() == "img3.jpg"
    assert page.locator("#place").inner_text() == "2 of 6"


def test_one_slider_sets_the_opacity_of_all_heatmaps(open_report):
    page = open_report(sample())

    def opacities() -> set[str]:
        found = "[...document.querySelectorAll('.heat')].map(e => getComputedStyle(e).opacity)"
        return set(page.evaluate(found))

    assert opacities() == {"0.7"}
    page.locator("#heat").fill("20")
    assert opacities() == {"0.2"}
    page.locator(".card button").first.click()
    inside = page.locator("#dialog input[type=range]")
    assert inside.input_value() == "20"
    name = page.locator("#details h2").inner_text()
    inside.focus()
    page.keyboard.press("ArrowRight")  # moves the slider, does not open the next image
    assert opacities() == {"0.21"}
    assert page.locator("#details h2").inner_text() == name


def test_outlines_can_be_hidden(open_report):
    page = open_report(sample())
    boxes = page.locator(".card .boxes").first
    assert boxes.is_visible()
    page.get_by_label("Outlines").uncheck()
    assert not boxes.is_visible()


def test_outlines_and_heatmap_are_at_their_positions(open_report):
    """Positions on the screen relative to the picture; the image is 96 by 64 pixels."""
    page = open_report(sample(anomalies=[anomaly(0)]))
    page.locator(".card button").click()

    def place(selector: str) -> list[float]:
        box = page.locator(f"#picture {selector}").first.bounding_box()
        return [box["x"], box["y"], box["width"], box["height"]]

    x, y, width, height = place("image")
    assert width / height == pytest.approx(96 / 64, rel=0.01)
    scale = width / 96
    assert place("rect.box") == pytest.approx(
        [x + 20 * scale, y + 30 * scale, 24 * scale, 20 * scale], abs=2
    )
    assert place(".heat") == pytest.approx(
        [x + 6 * scale, y + 4 * scale, 84 * scale, 56 * scale], abs=2
    )


def test_tables_sort_by_their_headings(open_report):
    page = open_report(many_groups())
    first = page.locator("#groups tbody th").first
    heading = page.locator("#groups th", has=page.get_by_role("button", name="Highest"))
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert first.inner_text() == "camera-00000"
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert first.inner_text() == "camera-00199"


def test_unknown_values_stay_at_the_end(open_report):
    page = open_report(sample())
    heading = page.locator("#groups th", has=page.get_by_role("button", name="Threshold"))
    for _ in range(2):
        heading.get_by_role("button").click()
        assert page.locator("#groups tbody th").all_inner_texts() == ["cam-0", "cam-1"]


def luminance(page: Any, selector: str, what: str) -> float:
    """Return the luminance of a computed colour, 0 to 1 (WCAG)."""
    text = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{what}")
    values = [float(v) / 255 for v in text[text.index("(") + 1 : -1].split(",")[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_have_enough_contrast(open_report, scheme):
    page = open_report(sample(), scheme=scheme)
    ground = luminance(page, "section#scores", "backgroundColor")
    assert (ground < 0.1) == (scheme == "dark")
    for selector, what in [
        ("h1", "color"),
        (".caption .row", "color"),
        ("section#scores p", "color"),
        (".notes li", "color"),
        (".chip", "color"),
        (".chart .fill-faint", "fill"),
        (".chart .fill-ink", "fill"),
    ]:
        ink = luminance(page, selector, what)
        contrast = (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)
        assert contrast >= 4.5, (selector, contrast)


@pytest.mark.parametrize("make", [sample, hostile, many_groups])
def test_a_phone_shows_the_page_without_scrolling_sideways(open_report, make):
    long = anomaly(0, uri="/data/" + "x" * 300 + ".jpg", group="y" * 200)
    data = make()
    page = open_report(replace(data, anomalies=[long, *data.anomalies]), width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".card button").first.click()
    dialog = page.locator("#dialog")
    assert dialog.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert page.get_by_role("button", name="Close").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_names_are_shown_as_text(open_report):
    page = open_report(hostile())
    assert page.locator(".card .name").nth(1).inner_text() == HOSTILE
    page.locator(".card button").nth(1).click()
    assert page.locator("#details h2").inner_text() == HOSTILE
    page.keyboard.press("ArrowLeft")
    assert "alert(2)" in page.locator("#details").inner_text()
    page.keyboard.press("Escape")
    page.get_by_label("Search").fill("<img src=x onerror")
    assert len(names(page)) == 2


def test_the_policy_blocks_injected_markup(browser, tmp_path):
    path = tmp_path / "report.html"
    injected = "<script>document.title = 'late'</script><img src='https://example.org/x.png'>"
    path.write_text(render(sample(), "0.0").replace("</footer>", f"{injected}</footer>"))
    page = browser.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.goto(path.as_uri())
    assert page.title() != "late"
    assert len(told) == 2
    assert all("Content Security Policy" in text for text in told)
    page.close()


def test_a_report_without_images(open_report):
    page = open_report(sample(anomalies=[], histogram=None))
    assert page.locator("#dialog").count() == 0
    assert page.get_by_text("No image has a score yet").count() == 2
    page.locator("#groups th button").first.click()
