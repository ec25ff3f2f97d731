"""Opens pages of runs in headless Chromium and uses them as people would.

    tests/browser.py PAGE.html... [--screenshots FOLDER]

With AXE, the path of axe-core's axe.min.js, in the environment, accessibility is checked, too. Needs
Debian's chromium, chromium-driver and python3-selenium.
"""

import argparse
import atexit
import base64
import json
import os
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

MOST_BYTES = 5_000_000
MOST_SECONDS = 1.0

parser = argparse.ArgumentParser()
parser.add_argument("pages", nargs="+", type=Path)
parser.add_argument("--screenshots", type=Path)
arguments = parser.parse_args()

options = webdriver.ChromeOptions()
for flag in ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600"]:
    options.add_argument(flag)
options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
atexit.register(driver.quit)
wrong = []


def expect(good, what):
    if not good:
        wrong.append(what)
        print(f"  WRONG: {what}")


def addresses():
    """What the page asked for, its own address and what it holds within itself left out."""
    asked = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    return [url for url in asked if not url.startswith(("data:", "blob:"))]


def shot(page, name):
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
        path = arguments.screenshots / f"{page.parent.name}-{page.stem}-{name}.png"
        height = driver.execute_script("return document.documentElement.scrollHeight")
        driver.set_window_size(1200, min(height + 150, 12000))
        driver.save_screenshot(str(path))


def scheme(value):
    features = [{"name": "prefers-color-scheme", "value": value}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")


def accessible(page, name):
    axe = os.environ.get("AXE")
    if not axe:
        return
    driver.execute_script(Path(axe).read_text())
    found = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    for violation in found["violations"]:
        serious = violation["impact"] in ("serious", "critical")
        nodes = [node["html"][:120] for node in violation["nodes"][:3]]
        line = f"axe ({name}), {violation['impact']}: {violation['help']}: {nodes}"
        expect(not serious, line)
        if not serious:
            print(f"  {line}")


def visible(selector):
    return [it for it in driver.find_elements(By.CSS_SELECTOR, selector) if it.is_displayed()]


def use_charts():
    for chart in visible("svg[tabindex]"):
        readout = driver.find_element(By.ID, chart.get_attribute("id") + "-readout")
        before = readout.text
        chart.send_keys(Keys.ARROW_RIGHT)
        expect(readout.text != before, f"an arrow key says nothing of {chart.get_attribute('id')}")
        paths = len(chart.find_elements(By.CSS_SELECTOR, "path"))
        expect(paths >= 2, f"{chart.get_attribute('id')} has no curve")
    for control in visible("#log"):
        before = driver.find_element(By.ID, "loss").get_attribute("innerHTML")
        control.click()
        after = driver.find_element(By.ID, "loss").get_attribute("innerHTML")
        expect(before != after, "the logarithm changes nothing")
        control.click()
    for control in visible("#smoothing"):
        before = driver.find_element(By.ID, "loss").get_attribute("innerHTML")
        control.send_keys(Keys.END)
        after = driver.find_element(By.ID, "loss").get_attribute("innerHTML")
        expect(before != after, "smoothing changes nothing")
        control.send_keys(Keys.HOME)


def use_matrix():
    cells = visible(".confusion button")
    for cell in cells:
        count = int(cell.text)
        cell.click()
        shown = len(visible("#cell-pictures li"))
        expect(shown == count, f"a cell of {count} shows {shown} pictures")
        expect(cell.get_attribute("aria-pressed") == "true", "a cell does not say that it is pressed")


for page in arguments.pages:
    page = page.resolve()
    print(f"{page}: {page.stat().st_size / 1e6:.2f} MB")
    expect(page.stat().st_size <= MOST_BYTES, "larger than 5 MB")
    # The first page of a browser pays for its start.
    timings = []
    for _ in range(3):
        driver.get_log("performance")
        driver.get(page.as_uri())
        timings.append(
            driver.execute_script(
                "const t = performance.getEntriesByType('navigation')[0];"
                "return t.domContentLoadedEventEnd / 1000"
            )
        )
    expect(driver.execute_script("return document.documentElement.dataset.ready") == "yes", "not ready")
    timing = min(timings)
    print(f"  usable after {timing:.2f} s")
    expect(timing <= MOST_SECONDS, f"usable only after {timing:.2f} s")
    use_charts()
    use_matrix()
    light, dark = scheme("light"), scheme("dark")
    expect(light != dark, "light and dark look the same")
    accessible(page, "dark")
    shot(page, "dark")
    scheme("light")
    accessible(page, "light")
    shot(page, "light")
    printed = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    expect(len(base64.b64decode(printed)) > 10_000, "it cannot be printed")
    asked = addresses()
    expect(asked == [page.as_uri()], f"it asked for {asked}")
    for entry in driver.get_log("browser"):
        expect(entry["level"] != "SEVERE", f"console: {entry['message']}")
sys.exit(len(wrong) > 0)
