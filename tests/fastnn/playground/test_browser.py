"""The playground as a browser shows it (slow): headless Chromium, driven through its WebDriver."""

from __future__ import annotations

import threading

import pytest

from bench.playground import frames_a_second
from fastnn.playground.problems import PROBLEMS
from fastnn.playground.server import Server
from fastnn.playground.settings import LOSSES, RULES, SETTINGS, from_address

pytestmark = pytest.mark.slow
_SECONDS = 30


@pytest.fixture(scope="module")
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


class Page:
    """What a person does on the page, and sees."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server

    def open(self, state="", width=1400, dark=False):
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.browser.get("about:blank")
        self.browser.get(f"{self.server.address}#{state}")
        self.wait("return document.body.dataset.ready === 'true'")

    def wait(self, script):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, _SECONDS, 0.05).until(lambda browser: browser.execute_script(script))

    def __getitem__(self, name):
        return self.browser.find_element("id", name)

    def set(self, name, value):
        """As the control is set by hand: a value, and the event that follows."""
        event = "input" if self[name].get_attribute("type") == "range" else "change"
        self.browser.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event(arguments[2]))",
            self[name],
            str(value),
            event,
        )

    def settings(self):
        return from_address(self.browser.current_url)

    def epoch(self):
        return int(self["epoch"].text.replace(",", ""))


@pytest.fixture
def page(browser, server):
    made = Page(browser, server)
    made.open()
    yield made
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_xor_is_learned_while_one_watches(page):
    page["play"].click()
    assert page["play"].text == "Pause"
    page.wait("return Number(document.getElementById('test-loss').textContent) < 0.05")
    page["play"].click()
    page.wait("return document.getElementById('status').textContent.startsWith('Paused. Epoch')")
    assert page.epoch() > 10
    blue, orange = (page.browser.execute_script(
        "const c = document.querySelector('.output canvas');"
        "return [...c.getContext('2d').getImageData(arguments[0], 4, 1, 1).data]", x) for x in (68, 4))  # fmt: skip
    assert blue[2] > blue[0]
    assert orange[0] > orange[2]


def test_frames_are_counted(browser, server, page):
    """That there are some: how many is measured by fastnn bench playground."""
    assert frames_a_second(browser, f"{server.address}#layers=3", 0.5) > 1
    page.wait("return document.getElementById('play').textContent === 'Play'")


def test_step_and_reset(page):
    page["step"].click()
    page.wait("return document.getElementById('epoch').textContent === '1'")
    page["reset"].click()
    page.wait("return document.getElementById('epoch').textContent === '0'")


CHANGES = {
    "noise": 20, "train_share": 70, "batch": 30, "seed": 7, "rate": 0.1, "activation": "relu", "loss": "hinge",
    "optimizer": "adam", "penalty": "l2", "penalty_rate": 0.01, "dropout": 15,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
def test_each_control_changes_what_it_says(page, name, value):
    page.set(name, value)
    assert page.settings().values[name] == value
    page.wait(f"return document.getElementById('{name}').value === '{value}'")
    if page[name].get_attribute("type") == "range":
        assert page[name].get_attribute("aria-valuetext").startswith(str(value))
    page["step"].click()
    page.wait("return document.getElementById('epoch').textContent !== '0'")
    assert page["alert"].get_attribute("hidden")


def test_problems_features_layers_and_neurons(page):
    from selenium.webdriver.common.keys import Keys

    for name in PROBLEMS:
        page[f"problem-{name}"].click()
        assert page.settings().problem == name
    assert page["loss"].get_attribute("value") == page.settings().loss
    assert PROBLEMS[page.settings().problem].regression in LOSSES[page.settings().loss].regression
    page["feature-sin(x1)"].send_keys(Keys.SPACE)
    assert page.settings().features == ("x1", "x2", "sin(x1)")
    page["more-layers"].click()
    page["layer-0-more"].click()
    page["layer-1-fewer"].click()
    assert page.settings().layers == (5, 1, 2)
    assert page["layer-count"].text == "3 hidden layers"
    page["fewer-layers"].click()
    page["step"].click()
    page.wait("return document.getElementById('epoch').textContent === '1'")
    page["neuron-0-4"].send_keys("")
    page.wait("return document.getElementById('caption').textContent.startsWith('Layer 1, neuron 5')")
    assert "bias" in page["neuron-0-4"].get_attribute("aria-label")


def test_the_last_feature_stays(page):
    page["feature-x1"].click()
    page["feature-x2"].click()
    assert page.settings().features == ("x2",)
    assert "at least one feature" in page["alert"].text


def test_a_reload_restores_what_is_set(page):
    state = "problem=spiral&noise=10&features=x1,x2,sin(x1)&layers=6,3&activation=relu&optimizer=adam&rate=0.003"
    page.open(state)
    before = page.settings()
    page.browser.refresh()
    page.wait("return document.body.dataset.ready === 'true'")
    assert page.settings() == before
    assert page.browser.execute_script("return document.getElementById('problem-spiral').checked")
    assert page["rate"].get_attribute("value") == "0.003"
    assert len(page.browser.find_elements("css selector", "button.neuron")) == 9


def test_an_address_that_sets_what_cannot_be_is_said(page, browser):
    page.open("problem=xro")
    assert "problem: got 'xro'" in page["alert"].text
    assert page.settings() == from_address("")
    assert any("400" in entry["message"] for entry in browser.get_log("browser"))  # which the browser notes itself


def test_the_keyboard(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    keys = ActionChains(page.browser)
    keys.send_keys(Keys.ARROW_RIGHT).perform()
    page.wait("return document.getElementById('epoch').textContent === '1'")
    keys.send_keys(" ").perform()
    page.wait("return document.getElementById('play').textContent === 'Pause'")
    keys.send_keys(" ").perform()
    page.wait("return document.getElementById('play').textContent === 'Play'")
    keys.send_keys("r").perform()
    page.wait("return document.getElementById('epoch').textContent === '0'")


def test_the_tab_key_reaches_all_that_can_be_done(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    keys, reached = ActionChains(page.browser), []
    for _ in range(60):
        keys.send_keys(Keys.TAB).perform()
        now = page.browser.execute_script("return document.activeElement.id || document.activeElement.className")
        if now in reached:
            break
        reached.append(now)
        shown = "return getComputedStyle(document.activeElement).outlineStyle"
        assert now.startswith("problem-") or page.browser.execute_script(shown) != "none", now
    assert reached[0] == "skip"
    wanted = {*CHANGES, "play", "step", "reset", "speed", "code", "share", "fewer-layers", "more-layers", "neuron-0-0",
              "neuron-1-1", "layer-0-more", "layer-1-fewer", "feature-x1", "show-test", "discrete"}  # fmt: skip
    assert wanted <= set(reached)


def test_the_focus_stays_where_a_button_can_do_no_more(page):
    focused = "return document.activeElement.id"
    page.open("layers=2")
    page["layer-0-fewer"].click()
    assert not page["layer-0-fewer"].is_enabled()
    assert page.browser.execute_script(focused) == "layer-0-more"
    page["layer-0-more"].click()
    assert page.browser.execute_script(focused) == "layer-0-more"
    page["fewer-layers"].click()
    assert not page["fewer-layers"].is_enabled()
    assert page.browser.execute_script(focused) == "more-layers"


def test_every_control_has_a_name(page):
    unnamed = page.browser.execute_script(
        "return [...document.querySelectorAll('button, input, select')].filter((each) => each.offsetParent !== null"
        " && !(each.labels?.length || each.textContent.trim() || each.getAttribute('aria-label')))"
        ".map((each) => each.outerHTML)"
    )
    assert unnamed == []
    assert {name for name in SETTINGS if page.browser.find_elements("id", name)} >= CHANGES.keys()
    assert set(RULES) == {
        option.get_attribute("value") for option in page["optimizer"].find_elements("tag name", "option")
    }


def test_the_code_is_shown(page):
    page["code"].click()
    page.wait("return document.getElementById('script').open")
    assert "model.fit(" in page["script-text"].text


def test_two_tabs_do_not_disturb_each_other(page, browser):
    page["step"].click()
    page.wait("return document.getElementById('epoch').textContent === '1'")
    first, loss = browser.current_window_handle, page["test-loss"].text
    browser.switch_to.new_window("tab")
    page.open("problem=circle")
    page["step"].click()
    page.wait("return document.getElementById('epoch').textContent === '1'")
    browser.close()
    browser.switch_to.window(first)
    assert page.epoch() == 1
    assert page["test-loss"].text == loss


def test_a_closed_tab_frees_its_training(page, browser, server):
    before = len(server.tabs)
    browser.switch_to.new_window("tab")
    other = browser.current_window_handle
    page.open("problem=moons")
    assert len(server.tabs) == before + 1
    browser.close()
    browser.switch_to.window(next(each for each in browser.window_handles if each != other))
    page.wait("return true")
    for _ in range(100):
        if len(server.tabs) == before:
            break
        threading.Event().wait(0.05)
    assert len(server.tabs) == before


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 400, 768, 1400, 1920])
def test_it_fits(page, width, dark):
    page.open("layers=8,8,8,8,8,8&features=x1,x2,x1^2,x2^2,x1*x2,sin(x1),sin(x2)", width, dark)
    wide, seen, background = page.browser.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth, getComputedStyle(document.body).backgroundColor]"
    )
    assert wide <= seen
    shade = int(background.partition("(")[2].split(",")[0])
    assert (shade < 60) is dark
