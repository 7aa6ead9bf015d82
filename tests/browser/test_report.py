"""The report in a browser: with mouse and keyboard, on a phone, in dark mode."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from padim_dist.pages.data import ReportData
from padim_dist.pages.html import render
from tests.pages.samples import HOSTILE, anomaly, head, hostile, many_groups, review, sample

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

    def open_(data: ReportData, width: int = 1400, scheme: str = "light", hash_: str = "") -> Any:
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
            url, _, _ = request.url.partition("#")
            if url != path.as_uri() and not url.startswith(("data:", "blob:")):
                trouble.append(f"request: {request.url}")

        page.on("request", asked)
        page.goto(path.as_uri() + hash_)
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
    page.locator("#show").select_option("flagged")
    assert sorted(names(page)) == ["img0.jpg", "img2.jpg"]
    page.get_by_label("Search").fill("nothing like it")
    assert names(page) == []
    assert page.get_by_text("No images match").is_visible()
    assert shown.inner_text() == "0 of 12 shown"


@pytest.mark.parametrize(("flagged", "left"), [(False, 0), (True, 12)])
def test_filtering_when_none_or_all_are_flagged(open_report, flagged, left):
    items = [anomaly(i, flagged=flagged) for i in range(12)]
    page = open_report(sample(anomalies=items))
    page.locator("#show").select_option("flagged")
    assert len(names(page)) == left


def test_without_calibration_sorting_is_by_score(open_report):
    blank = {"p_value": None, "p_extrapolated": None, "flagged": None}
    items = [anomaly(i, **blank) for i in range(5)]
    page = open_report(sample(anomalies=items, alarms=None))
    assert names(page) == [f"img{i}.jpg" for i in range(5)]
    assert page.locator("#show option[value=flagged]").count() == 0
    assert page.locator("#divider").count() == 0


def test_one_image_by_mouse(open_report):
    page = open_report(sample())
    dialog = page.locator("#dialog")
    assert not dialog.is_visible()
    page.get_by_label("Sort by").select_option("score")
    page.locator(".card .open").nth(1).click()
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
    page.locator(".card:visible .open").first.click()
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
    page.locator(".card .open").first.click()
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
    page.locator(".card .open").click()

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


def divided(page: Any) -> tuple[list[str], list[str]]:
    """Return the names before and after the line at the threshold."""
    shown = page.locator("#gallery > li:not([hidden])").evaluate_all(
        "items => items.map(e => e.id || e.querySelector('.name').textContent)"
    )
    place = shown.index("divider")
    return shown[:place], shown[place + 1 :]


def many() -> ReportData:
    """Return a report of 40 images: 3 are flagged, and 13 are far from it."""
    labels = {0: "good", 1: "scratch", 20: "scratch", 39: "scratch"}
    items = [anomaly(i, flagged=i < 3, p_value=0.001 * i, label=labels.get(i)) for i in range(40)]
    return sample(anomalies=[replace(item, review=None) for item in items])


def test_at_first_flagged_images_and_near_misses_with_a_line_between(open_report):
    page = open_report(many())
    assert page.locator("#shown").inner_text() == "27 of 40 shown"
    flagged, near = divided(page)
    assert flagged == ["img0.jpg", "img1.jpg", "img2.jpg"]
    assert near == [f"img{i}.jpg" for i in range(3, 27)]
    page.locator("#show").select_option("all")
    assert len(divided(page)[1]) == 37
    page.locator("#show").select_option("flagged")
    assert not page.locator("#divider").is_visible()
    page.locator("#show").select_option("all")
    page.get_by_label("Sort by").select_option("name")
    assert not page.locator("#divider").is_visible()


def test_missed_anomalies_and_false_alarms(open_report):
    page = open_report(many())
    page.locator("#show").select_option("missed")
    assert names(page) == ["img20.jpg", "img39.jpg"]
    page.locator("#show").select_option("false")
    assert names(page) == ["img0.jpg"]
    page.locator("#show").select_option("all")
    page.locator("#label").select_option("+defect")
    assert names(page) == ["img1.jpg", "img20.jpg", "img39.jpg"]
    page.locator("#label").select_option("=good")
    assert names(page) == ["img0.jpg"]


def test_the_verdict_of_a_person_counts_more_than_the_label(open_report):
    page = open_report(
        sample(anomalies=[replace(anomaly(0, label="scratch"), review=review("ok"))])
    )
    page.locator("#show").select_option("false")
    assert names(page) == ["img0.jpg"]


def test_the_address_keeps_filters_and_the_open_image(open_report):
    page = open_report(many())
    page.locator("#show").select_option("all")
    page.locator("#group").select_option("cam-1")
    page.get_by_label("Search").fill("img1 & ?#=")
    page.get_by_label("Search").fill("img1")
    expected = names(page)
    page.locator(".card:visible .open").nth(2).click()
    name = page.locator("#details h2").inner_text()
    address = page.evaluate("location.hash")
    again = open_report(many(), hash_=address)
    assert names(again) == expected
    assert len(expected) == 6
    assert again.locator("#details h2").inner_text() == name
    assert again.locator("#group").input_value() == "=cam-1"
    again.keyboard.press("Escape")
    # The browser tells of a closed dialog in a task of its own.
    again.wait_for_function("!location.hash.includes('image=')", timeout=10_000)
    again.get_by_role("link", name="Drift").click()
    assert again.evaluate("location.hash").startswith("#drift?")
    again.get_by_label("Search").fill("")
    again.locator("#group").select_option("")
    again.locator("#show").select_option("near")
    assert again.evaluate("location.hash") == "#anomalies"


def test_an_address_with_unknown_settings_shows_the_usual_images(open_report):
    page = open_report(many(), hash_="#anomalies?show=x&group=%22%3E%3Cb&image=y&sort=__proto__&%")
    assert page.locator("#shown").inner_text() == "27 of 40 shown"
    assert not page.locator("#dialog").is_visible()


def test_marks_are_kept_and_saved_to_a_file(open_report):
    page = open_report(sample())
    saved = page.locator("#saved")
    assert not saved.is_visible()
    page.get_by_label("Sort by").select_option("score")
    page.locator(".card .marks").nth(0).get_by_role("button", name="defect").click()
    page.locator(".card .open").nth(1).focus()
    page.keyboard.press("o")
    assert focused(page) == "img1.jpg, score 39.00: open"
    page.locator(".card .open").nth(2).click()
    assert page.get_by_label("Kind").is_disabled()
    page.keyboard.press("d")
    page.get_by_label("Kind").fill("crack")
    page.get_by_label("Note").fill('od "quoted" </script>')
    page.keyboard.press("ArrowRight")  # moves in the text
    page.keyboard.press("Escape")
    page.locator(".suspect .marks").first.get_by_role("button", name="ok").click()
    page.locator(".card .open").nth(3).focus()
    page.keyboard.press("o")
    page.keyboard.press("o")  # removes the mark
    assert "4 images marked: 2 defect, 2 ok." in saved.inner_text()
    page.reload()
    assert "4 images marked: 2 defect, 2 ok." in saved.inner_text()
    page.locator("#show").select_option("marked")
    assert names(page) == ["img0.jpg", "img1.jpg", "img2.jpg"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Save to a file").click()
    assert download.value.suggested_filename == "reviews-01234567.json"
    made = json.loads(Path(download.value.path()).read_text())
    assert (made["padim_dist"], made["run"]) == ("reviews", "0123456789abcdef")
    note = 'od "quoted" </script>'
    assert made["reviews"] == [
        {"image_id": f"{0:016x}", "verdict": "defect", "kind": None, "note": None},
        {"image_id": f"{1:016x}", "verdict": "ok", "kind": None, "note": None},
        {"image_id": f"{2:016x}", "verdict": "defect", "kind": "crack", "note": note},
        {"image_id": "a" * 16, "verdict": "ok", "kind": None, "note": None},
    ]
    assert "padim-dist label --from reviews-01234567.json" in saved.inner_text()
    save = page.get_by_role("button", name="Save to a file")
    assert "2 ok. All are saved." in saved.inner_text()
    assert save.is_disabled()
    page.reload()
    assert save.is_disabled()
    page.locator(".card .open").nth(2).click()
    page.get_by_label("Note").fill("changed")
    page.keyboard.press("Escape")
    assert "1 not saved yet." in saved.inner_text()
    with page.expect_download() as download:
        save.click()
    (again,) = json.loads(Path(download.value.path()).read_text())["reviews"]
    assert again == {
        "image_id": f"{2:016x}", "verdict": "defect", "kind": "crack", "note": "changed"
    }  # fmt: skip
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Clear all").click()
    assert not saved.is_visible()
    page.reload()
    assert not saved.is_visible()


def test_captions_are_whole_on_a_phone(open_report):
    page = open_report(sample(), width=390)
    ends = "captions => captions.map(c => c.getBoundingClientRect().right)"
    found = page.locator(".scroll caption").evaluate_all(ends)
    assert found
    assert max(found) <= 390


def test_marks_of_another_run_are_others(open_report):
    page = open_report(sample())
    page.locator(".card .marks").first.get_by_role("button", name="ok").click()
    assert page.locator("#saved").is_visible()
    path, other = Path(page.evaluate("location.pathname")), sample(head=head(run_id="f" * 16))
    path.write_text(render(other, "0.0"), encoding="utf-8")
    page.reload()
    assert page.locator("html").get_attribute("data-run") == "f" * 16
    assert not page.locator("#saved").is_visible()


def test_original_mask_and_zoom(open_report):
    page = open_report(sample(anomalies=[anomaly(0), anomaly(1)]))
    page.get_by_label("Sort by").select_option("score")
    page.locator(".card .open").first.click()
    heat, truth = page.locator("#picture .heat"), page.locator("#picture .mask")
    assert (heat.is_visible(), truth.is_visible()) == (True, False)
    page.get_by_role("button", name="Mask").click()
    assert truth.is_visible()
    page.get_by_role("button", name="Original").click()
    assert not heat.is_visible()
    assert not page.locator("#picture .unseen").is_visible()
    svg = page.locator("#picture svg")
    assert svg.get_attribute("viewBox") == "0 0 96 64"
    page.get_by_role("button", name="Zoom in").click()  # to the peak
    x, y, width, height = map(float, svg.get_attribute("viewBox").split())
    assert (width, height) == pytest.approx((32, 64 / 3))
    assert x < 30 < x + width
    assert y < 40 < y + height
    page.keyboard.press("0")
    assert svg.get_attribute("viewBox") == "0 0 96 64"
    page.get_by_role("button", name="Next").click()
    assert page.get_by_role("button", name="Mask").is_disabled()


def test_the_wheel_zooms_where_the_pointer_is(open_report):
    page = open_report(sample(anomalies=[anomaly(0)]))
    page.locator(".card .open").click()
    svg = page.locator("#picture svg")
    box = svg.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -100)
    x, _, width, _ = map(float, svg.get_attribute("viewBox").split())
    assert width == pytest.approx(96 / 1.25)
    assert x + width / 4 == pytest.approx(24, abs=0.2)  # the same pixel as before
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4 + 20, box["y"] + box["height"] / 2)
    page.mouse.up()
    moved, *_ = map(float, svg.get_attribute("viewBox").split())
    assert moved == pytest.approx(max(0.0, x - 20 / box["width"] * width), abs=0.2)


def test_the_command_can_be_copied(open_report):
    page = open_report(sample(anomalies=[anomaly(0)]))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".card .open").click()
    page.get_by_role("button", name="Copy the command that labels it").click()
    page.get_by_text("Copied").wait_for()  # the clipboard answers later
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == "padim-dist label 0000000000000000 defect"


def test_on_a_phone_the_filters_open_on_request(open_report):
    page = open_report(sample(), width=390)
    filters, button = page.locator("#filters"), page.locator("#more")
    assert page.get_by_label("Search").is_visible()
    assert not filters.is_visible()
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    page.locator("#show").select_option("flagged")
    assert button.inner_text() == "Filters (1)"
    button.click()
    assert not filters.is_visible()
    assert len(names(page)) == 3
    # The histogram has its own drawing for a phone, as wide as the page.
    assert not page.locator("#scores .wide svg").is_visible()
    assert page.locator("#scores .narrow svg").bounding_box()["width"] < 390
    wide = open_report(sample())
    assert wide.locator("#filters").is_visible()
    assert not wide.locator("#more").is_visible()


def test_the_flag_does_not_cover_the_picture(open_report):
    page = open_report(sample())
    card = page.locator(".card.flagged").first
    picture, chip = (card.locator(name).bounding_box() for name in (".open", ".chip"))
    assert chip["y"] >= picture["y"] + picture["height"]


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
    page.locator(".card .marks button").first.click()
    for selector, what in [
        ("h1", "color"),
        (".caption .row", "color"),
        ("section#scores p", "color"),
        (".notes li", "color"),
        (".chip", "color"),
        (".folder", "color"),
        (".divider", "color"),
        (".marks button", "color"),
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
    page.locator(".card .open").first.click()
    dialog = page.locator("#dialog")
    assert dialog.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert page.get_by_role("button", name="Close").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_names_are_shown_as_text(open_report):
    page = open_report(hostile())
    assert page.locator(".card .name").nth(1).inner_text() == HOSTILE
    page.locator(".card .open").nth(1).click()
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


def test_flagged_images_come_first_also_with_a_threshold_for_each_group(open_report):
    near = anomaly(0, flagged=False, p_value=0.002, group="strict")
    flagged = anomaly(1, flagged=True, p_value=0.004, group="loose")
    page = open_report(sample(anomalies=[flagged, near]))
    assert divided(page) == (["img1.jpg"], ["img0.jpg"])
