"""The page at `/` in a real browser: what a planner sees, does and shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cluster.home import Home
from serve.api import create_app
from serve.service import open_service
from tests.serve.browser import Page, browsing
from tests.serve.conftest import Caller, listening_server
from tests.serve.test_scorer import START, ingested

MACHINES = {"m1": 60, "press-02": 60, "<b>odd</b> / näme": 60}
NOW_US = int((START + timedelta(hours=60)).timestamp() * 1e6)


@pytest.fixture
def caller(plant_home: Home, new_key: Callable[..., str]) -> Iterator[Caller]:
    ingested(plant_home, MACHINES)
    service = open_service(plant_home, now_us=lambda: NOW_US)
    yield Caller(create_app(service), new_key("read", "write"), service)
    service.close()


@pytest.fixture
def page(caller: Caller, new_key: Callable[..., str], tmp_path: Path) -> Iterator[Page]:
    """The page, opened with a key."""
    with listening_server(caller.app) as (_, port), browsing(tmp_path) as found:
        found.size(1200, 900)
        found.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
        found.until("document.readyState === 'complete' && !!document.getElementById('access').onsubmit")
        enter(found, new_key("read", plants=("mill",)))
        found.until("document.querySelectorAll('#machines tbody tr').length === 3")
        yield found
        assert found.said == []
        assert {url.split("/")[2] for url in found.asked if not url.startswith("data:")} == {f"127.0.0.1:{port}"}


def enter(page: Page, key: str) -> None:
    page.evaluate(f"document.getElementById('key').value = {key!r}; document.getElementById('access').requestSubmit()")


def open_machine(page: Page, name: str) -> None:
    page.evaluate(f"[...document.querySelectorAll('button.machine')].find((b) => b.textContent === {name!r}).click()")
    page.until(f"document.querySelector('#detail h2')?.textContent === {name!r}")


def test_machines_come_by_risk_with_life_age_and_doubts(page: Page, caller: Caller) -> None:
    told = caller("GET", "/v1/plants/mill/machines").json["machines"]
    names = page.evaluate("[...document.querySelectorAll('button.machine')].map((b) => b.textContent)")
    assert names == [each["machine"] for each in told]
    first = page.evaluate("document.querySelector('#machines tbody tr').innerText")
    assert f"{100 * told[0]['failure_probability']['48h']:.1f} %" in first
    assert "to over 168)" in first
    assert "60 min ago" in first
    assert "3 machines" in page.text()
    assert "Model v1" in page.text()
    assert page.evaluate("document.querySelector('#machines b')") is None  # names are text, never markup


def test_a_machine_shows_its_curves_reasons_sensors_log_and_model(page: Page, caller: Caller) -> None:
    open_machine(page, "m1")
    text = page.text()
    for part in (
        "fails within 48h", "remaining life", "Why: points of risk within 48h", "oil temp", "vibration",
        "2025-06-01 00:00 UTC: maintenance", "The window is filled to 100.0 %", "trained on 33 failures",
    ):  # fmt: skip
        assert part in text, part
    drawn = page.evaluate(
        "[...document.querySelectorAll('#detail svg[role=img]')].map((s) => s.getAttribute('aria-label'))"
    )
    assert len(drawn) == 4
    assert drawn[0].startswith("Risk over time, now ")
    assert page.evaluate("document.querySelector('#detail svg path.risk').getAttribute('d').length") > 100
    assert page.evaluate("document.querySelector('#detail svg path.band').getAttribute('d').length") > 100
    assert "NaN" not in page.evaluate("document.getElementById('detail').innerHTML")


def test_where_a_sensor_was_silent_its_line_has_a_gap(page: Page, caller: Caller) -> None:
    hour = 3600.0
    sent = [{"time": NOW_US / 1e6 + i * hour, "vibration": 1.0} | ({"oil_temp": 60.0} if i else {}) for i in range(2)]
    caller.service.now_us = lambda: NOW_US + 2 * 3_600_000_000  # type: ignore[union-attr]
    assert caller("POST", "/v1/plants/mill/machines/m1/readings", {"readings": sent}).status == 200
    open_machine(page, "m1")
    lines = page.evaluate("[...document.querySelectorAll('.sensors path.sensor')].map((p) => p.getAttribute('d'))")
    assert sorted(line.count("M") for line in lines) == [1, 2]


def test_it_is_live_and_a_place_can_be_shared(page: Page, caller: Caller) -> None:
    open_machine(page, "<b>odd</b> / näme")
    address = page.evaluate("location.href")
    newest = {"time": (NOW_US - 1) / 1e6, "vibration": 40.0}
    assert caller("POST", "/v1/plants/mill/machines/press-02/readings", {"readings": [newest]}).status == 200
    page.until("document.querySelector('#machines tbody tr').innerText.startsWith('press-02')", 30)
    page.call("Page.navigate", url="about:blank")
    page.call("Page.navigate", url=address)
    page.until("document.querySelector('#detail h2')?.textContent === '<b>odd</b> / näme'")


def test_a_machine_that_is_not_there_is_said_beside_those_that_are(page: Page) -> None:
    page.evaluate("location.hash = '#mill/nobody'")
    page.until("document.getElementById('note').textContent.includes('Unknown machine')")
    assert page.evaluate("document.querySelectorAll('#machines tbody tr').length") == 3
    assert page.evaluate("document.getElementById('detail').hidden")
    page.said = [text for text in page.said if "404" not in text]  # the browser's own line of the answer


def test_a_wrong_key_says_so_and_a_closed_one_leaves_nothing(page: Page, new_key: Callable[..., str]) -> None:
    page.evaluate("document.getElementById('leave').click()")
    page.until("document.getElementById('access')?.hidden === false && document.getElementById('list')?.hidden")
    assert page.evaluate("sessionStorage.length") == 0
    enter(page, "mw_none_none")
    page.until("document.getElementById('note').textContent.includes('key')")
    page.said = [text for text in page.said if "401" not in text]  # the browser's own line of the answer


@pytest.mark.parametrize(("width", "height", "phone"), [(360, 740, True), (800, 900, False), (1400, 900, False)])
def test_nothing_is_wider_than_the_screen(page: Page, width: int, height: int, phone: bool) -> None:
    page.size(width, height, phone=phone)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    open_machine(page, "m1")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    seen = page.evaluate("getComputedStyle(document.getElementById('list')).display !== 'none'")
    assert seen is not phone
    if phone:
        page.evaluate("document.querySelector('button.back').click()")
        page.until("document.getElementById('detail').hidden")
