"""The page of a restored folder in a real browser: 10,000 photographs, hostile names, doubts, strangers and failures.

``PR_SCREENSHOTS`` names a folder for pictures of what was seen. ``CHROMIUM`` names the browser where it is not found.
"""

from __future__ import annotations

import base64
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from personal_restore.cli.archive import page as pages
from personal_restore.cli.archive.manifest import Entry, Manifest, Origin
from personal_restore.cli.archive.photograph import Job
from personal_restore.lib.samples import photograph
from PIL import Image, ImageFilter

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
pytestmark = pytest.mark.slow

ROWS, PICTURES, STRANGERS = 10_000, 20, 41
HOSTILE = (
    "<img src=x onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>'&amp;\u2028.jpg"
)
SCREENSHOTS = os.environ.get("PR_SCREENSHOTS")
ORIGIN = Origin("0" * 16, "1" * 16, "2" * 16)


def likeness(rng: np.random.Generator, person: np.ndarray | None = None) -> str:
    vector = rng.normal(size=128) if person is None else person + 0.02 * rng.normal(size=128)
    vector /= np.linalg.norm(vector)
    return f"dlib:{base64.b64encode(vector.astype('<f2').tobytes()).decode()}"


def entries(rng: np.random.Generator):
    """Every hundredth photograph failed, every tenth match is doubtful, one stranger is in the first 41 that have strangers."""
    stranger = rng.normal(size=128)
    stranger /= np.linalg.norm(stranger)
    for number in range(ROWS):
        name = HOSTILE if number == 3 else f"{1900 + number // 100}/IMG_{number:05}.jpg"
        base = Entry(name, 1, number, "c", ORIGIN, seconds=1.0)
        if number % 100 == 99:
            yield Entry(**{**vars(base), "reason": "not a picture that can be opened"})
            continue
        box = [180, 60, 270, 190]
        anna = {
            "person": "Anna",
            "confidence": 0.55,
            "doubt": "not sure: check" if number % 10 == 0 else "",
            "box": box,
        }
        other = {"person": None, "confidence": 0, "doubt": "", "box": [20, 20, 90, 110]}
        if number % 50 < 2:
            other["likeness"] = likeness(rng, stranger if number < 50 * STRANGERS and number % 50 == 1 else None)
        result = f"{number % PICTURES:02} #?%é.png"
        more = {"result": result, "preview": "", "before": (512, 512), "after": (512, 512), "faces": [anna, other]}
        yield Entry(**{**vars(base), **more, "damage": {"words": "strong blur"}, "notes": ("it was cut off",)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("archive")
    (out / pages.PREVIEWS).mkdir()
    sharp = Image.fromarray((photograph()[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    for number in range(PICTURES):
        sharp.save(out / f"{number:02} #?%é.png")
        sharp.filter(ImageFilter.GaussianBlur(4)).save(out / pages.PREVIEWS / f"{number:02} #?%é.png.jpg")
    manifest = Manifest(out)
    for one in entries(np.random.default_rng(0)):
        manifest.add(one)
    pages.write_page(manifest, Job(out, out, {}, out, ORIGIN, "family"), out)
    return out


@pytest.fixture(scope="module")
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_api.sync_playwright() as playwright:
        if path is None and not Path(playwright.chromium.executable_path).is_file():
            pytest.skip("no Chromium: install one, name it in CHROMIUM, or run: playwright install chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, folder):
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    start = time.perf_counter()
    page.goto((folder / pages.PAGE).as_uri(), wait_until="domcontentloaded")
    page.wait_for_selector(".row")
    page.opened = time.perf_counter() - start
    yield page
    assert page.errors == [] and page.title() == "Restored photographs"
    page.close()


def seen(page, name: str) -> None:
    if SCREENSHOTS:
        page.wait_for_timeout(500)
        page.screenshot(path=Path(SCREENSHOTS) / f"archive_{name}.png")


def press(page, name: str) -> float:
    """Seconds from the click until what it shows is drawn."""
    return page.evaluate(
        """name => new Promise(done => {
            const start = performance.now();
            document.querySelector(`[data-filter=${name}]`).click();
            requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000)));
        })""",
        name,
    )


def test_ten_thousand_photographs_open_at_once_and_only_what_is_seen_is_loaded(page):
    assert page.opened < 2
    assert page.inner_text("#count") == "10,000 photographs" and page.locator(".row").count() < 30
    page.wait_for_timeout(300)
    assert len(page.asked) < 30
    page.evaluate("document.getElementById('list').scrollTop = 76 * 9990")
    page.wait_for_function("document.querySelector('#space').innerText.includes('IMG_09995.jpg')")
    assert page.locator(".row").count() < 30
    seen(page, "all")


def test_filters_answer_at_once(page):
    expected = {
        "doubtful": "1,000 photographs",
        "failed": "100 photographs",
        "strangers": "1 stranger",
        "all": "10,000 photographs",
    }
    for name, count in expected.items():
        assert press(page, name) < 0.3
        assert page.inner_text("#count") == count
        seen(page, name)
    page.fill("#search", "anna")
    assert page.inner_text("#count") == "9,900 photographs"
    page.fill("#search", "img_00042")
    assert page.inner_text("#count") == "1 photograph"


def test_a_stranger_is_asked_for_with_the_folder_to_make(page):
    press(page, "strangers")
    assert f"This stranger appears in {STRANGERS} photographs: who is it?" in page.inner_text("#main")
    assert page.inner_text("#main code >> nth=0") == "family/NAME"
    assert page.locator(".crop").count() == STRANGERS
    page.click("text=Show these photographs")
    assert page.inner_text("#count").startswith(f"{STRANGERS} photographs with stranger 1")
    seen(page, "stranger")


def test_the_slider_shows_before_and_after(page):
    page.wait_for_function("[...document.querySelectorAll('#pair img')].every(image => image.naturalWidth === 512)")
    before, after = page.locator("#pair img").all()
    box = page.locator("#pair").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 50)
    page.mouse.up()
    clip = after.evaluate("image => image.style.clipPath")
    assert clip.startswith("inset(0") and 24 < float(clip.split()[-1].rstrip("%)")) < 26
    assert before.get_attribute("src").startswith("previews/") and page.locator(".box").count() == 2
    seen(page, "slider")


def test_hostile_names_are_only_text(page):
    page.fill("#search", "onerror")
    page.wait_for_timeout(200)
    assert page.inner_text("#count") == "1 photograph" and page.locator("#main h2").inner_text().startswith(
        "<img src=x"
    )
    assert page.locator("img[src=x]").count() == 0
    seen(page, "hostile")


def test_the_list_is_read_with_the_keyboard(page):
    page.focus("#list")
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    assert page.inner_text("#main h2") == "1900/IMG_00013.jpg"  # the fourth has another name, and sorts last
    assert page.locator(".row[aria-selected=true]").count() == 1
