"""The page of a sweep in a browser: its controls, what a link shows, and no error on its console."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import browser
import pytest
from PIL import Image
from test_analysis import NASTY, make_report, with_replicates
from test_results import scored, synthetic_trials

from analysis import Moment

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
WATCH_ERRORS = """
window.errors = [];
addEventListener("error", (event) => errors.push(String(event.message ?? event.target.src)), true);
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
const told = console.error;
console.error = (...parts) => { errors.push(parts.join(" ")); told(...parts); };
"""
WATCH_TIMERS = """
window.waits = [];
const wait = window.setTimeout;
window.setTimeout = (run, ms) => { waits.push(ms); return ms === 30000 ? 0 : wait(run, ms); };
"""
CONTRASTS = """
(() => {
  const light = (name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
    const parts = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
    const [r, g, b] = parts.map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const ratio = (a, b) => Math.max(light(a), light(b)) / Math.min(light(a), light(b));
  return Math.min(...["--ink", "--soft", "--accent", "--bad"].flatMap((ink) =>
    ["--page", "--card", "--tint"].map((ground) => ratio(ink, ground))));
})()
"""
"""The least contrast of a text and what it stands on; WCAG 2 asks for 4.5."""
READY = "document.documentElement?.dataset.ready === 'yes'"
SETTLED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 15 trials with a replicate, a name that would run if it were HTML, and three pictures."""
    folder, trials = tmp_path_factory.mktemp("page"), with_replicates(synthetic_trials())
    trials[9] = trials[9].model_copy(update={"label": f"<img src=x onerror=alert(1)>{NASTY}"})
    trials[12] = scored(trials[12], reason=NASTY)
    samples = {}
    for number, trial in enumerate(("0005", "0008", "0009")):
        samples[trial] = folder / "trials" / trial / "samples.png"
        samples[trial].parent.mkdir(parents=True)
        Image.new("RGB", (80, 60), (80 * number, 90, 120)).save(samples[trial])
    samples["0006"] = folder / "gone.png"
    Image.new("RGB", (8, 8)).save(samples["0006"])
    return make_report(trials, folder, title=NASTY, samples=samples).html


@asynccontextmanager
async def opened(file: Path, fragment: str = "", **window: Any) -> AsyncIterator[browser.Page]:
    """The page, once it is ready; at the end it must have told of no error."""
    async with browser.page(**window) as tab:
        await tab.call("Page.enable")
        await tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH_ERRORS)
        await tab.open(file.as_uri() + fragment)
        await tab.wait_for(READY, 60)
        yield tab
        assert await tab.value("errors.join('; ')") == ""


async def after(tab: browser.Page, script: str) -> Any:
    """What an expression gives, once the page has drawn what it changes."""
    await tab.value(script)
    await tab.call("Runtime.evaluate", expression=SETTLED, awaitPromise=True)


async def put(tab: browser.Page, control: str, value: str) -> None:
    """Gives a select or an input another value, as a person does."""
    await after(
        tab,
        f"{{ const put = document.getElementById({json.dumps(control)}); put.value = {json.dumps(value)};"
        " put.dispatchEvent(new Event('input')); put.dispatchEvent(new Event('change')); }",
    )


def test_each_control_changes_what_is_shown_and_the_address_keeps_it(file: Path) -> None:
    async def scenario() -> str:
        async with opened(file, width=1400, height=1000) as tab:
            answers = "document.getElementById('answers').innerText"
            assert "Best under 120 M: 0008" in (await tab.value(answers)).replace("\n", " ")
            await put(tab, "budget", "50M")
            assert "Best under 50 M: 0002" in await tab.value(answers)
            await put(tab, "within", "20")
            assert "Cheapest within 20 % of the teacher: 0010" in await tab.value(answers)

            rows = "[...document.querySelectorAll('#trials th')].map((cell) => cell.innerText).join(' ')"
            await after(tab, "document.querySelectorAll('#columns button')[4].click()")
            assert (await tab.value(rows)).startswith("0005 0002 0006")
            await after(tab, "document.querySelector('#groups input').click()")
            assert "0008" not in await tab.value(rows) and "0009" in await tab.value(rows)
            await put(tab, "range-low", "100M")
            await after(tab, "document.getElementById('range-add').click()")
            assert "0007" not in await tab.value(rows) and "0009" in await tab.value(rows)
            await after(tab, "document.querySelector('#trials tr[data-row=\"9\"] td').click()")
            assert "0009" in await tab.value("document.getElementById('details').innerText")

            await put(tab, "colour", "param/student.generator.norm")
            await after(
                tab, "Plotly.relayout('front-plot', {'xaxis.range': [7, 9], 'yaxis.range': [0.2, 0.9]})"
            )
            await put(tab, "metric", "train/l1")
            await after(tab, "document.getElementById('delta').click()")
            assert await tab.value(
                "document.querySelector('#trials td:nth-child(5)').innerText.startsWith('−')"
            )
            return str(await tab.value("location.hash"))

    async def link(fragment: str) -> None:
        async with opened(file, fragment, width=1400, height=1000) as tab:
            assert await tab.value("state.chosen") == 9 and await tab.value("state.budget") == 50e6
            assert (
                await tab.value("document.getElementById('colour').value") == "param/student.generator.norm"
            )
            ranges = await tab.value("document.getElementById('front-plot').layout.xaxis.range")
            assert ranges == [7, 9]
            await after(tab, "choose(4)")
            assert await tab.value("document.getElementById('front-plot').layout.xaxis.range") == [7, 9]

    fragment = asyncio.run(scenario())
    assert {"under=50000000", "hide=mi", "trial=0009", "sort=cost/macs"} <= set(fragment[1:].split("&"))
    asyncio.run(link(fragment))


def test_only_a_cost_makes_a_student_the_cheapest(file: Path) -> None:
    async def scenario() -> None:
        async with opened(file, "#x=cost/params&y=val/miou", width=1400, height=1000) as tab:
            for axes, head in {
                "x=cost/params&y=val/miou": "Cheapest within 5 % of the teacher: ",
                "x=val/miou&y=cost/macs": "Highest val/miou ↑ within 5 % of the teacher's MACs ↓: ",
                "x=train/l1&y=val/miou": "Choose two axes that have a better side",
            }.items():
                await tab.value(f"location.hash = '#{axes}'")
                await after(tab, "0")
                assert head in await tab.value("document.getElementById('answers').innerText"), axes

    asyncio.run(scenario())


def test_what_a_name_holds_is_text_and_wrong_links_show_the_page(file: Path) -> None:
    async def scenario() -> None:
        async with opened(
            file, "#x=nonsense&trial=77&zoom=a,b&sort=no&ranges=zz:1:2", width=900, height=900
        ) as tab:
            assert await tab.value("document.querySelector('h1').innerText") == NASTY
            assert (
                await tab.value(
                    "document.querySelectorAll('#trials img, #trials b, #failures script').length"
                )
                == 0
            )
            assert NASTY in await tab.value("document.getElementById('failures').innerText")
            await after(tab, "choose(9)")
            assert "<img src=x" in await tab.value("document.getElementById('details').innerText")
            assert await tab.value("state.x") == "cost/macs" and await tab.value("state.ranges.length") == 0

    asyncio.run(scenario())


def test_the_budget_line_is_dragged_arrows_choose_and_two_pictures_lie_under_a_slider(file: Path) -> None:
    async def scenario() -> None:
        async with opened(file, width=1400, height=1000) as tab:
            await after(tab, "Plotly.relayout('front-plot', {'shapes[0].x0': 6e7, 'shapes[0].x1': 1.2e8})")
            assert await tab.value("document.getElementById('budget').value") == "60 M"
            before = await tab.value("state.chosen")
            key = "new KeyboardEvent('keydown', {key: 'ArrowRight'})"
            await after(tab, f"document.getElementById('front-plot').dispatchEvent({key})")
            assert await tab.value("state.chosen") != before

            await after(tab, "document.getElementById('compare').scrollIntoView()")
            await after(tab, "choose(5)")
            await put(tab, "right", "8")
            pictures = "document.querySelectorAll('#pictures img').length"
            assert await tab.value(pictures) == 2
            await put(tab, "slide", "25")
            over = "document.querySelector('.stack img + img').style.clipPath"
            assert await tab.value(over) == "inset(0px 0px 0px 25%)"
            await put(tab, "view", "sides")
            assert await tab.value("document.querySelectorAll('.sides figure').length") == 2
            await put(tab, "right", "9")  # its picture lies beside the page
            await tab.wait_for("document.querySelectorAll('.sides img')[1].naturalWidth === 80", 10)
            table = await tab.value("document.getElementById('differences').textContent")
            assert "right less left" in table and "val/miou" in table
            await after(tab, "document.getElementById('search').scrollIntoView()")
            await tab.wait_for("document.querySelectorAll('#parallel-plot .main-svg').length > 0", 20)

    asyncio.run(scenario())


def test_nothing_sticks_out_of_a_narrow_page_and_headings_and_names_are_there(file: Path) -> None:
    async def scenario() -> None:
        async with opened(file, width=500, height=900, dark=True) as tab:
            for width in (500, 900, 1400):
                size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                await tab.call("Emulation.setDeviceMetricsOverride", **size)
                await after(tab, "0")
                assert await tab.value("document.documentElement.scrollWidth <= innerWidth"), width
            found = "[...document.querySelectorAll('h1, h2, h3')].map((each) => each.tagName)"
            headings = await tab.value(found)
            assert headings[:2] == ["H1", "H2"] and headings.count("H1") == 1
            inputs = "[...document.querySelectorAll('select, input')]"
            assert await tab.value(f"{inputs}.filter((each) => !each.labels.length).length") == 0
            assert await tab.value(CONTRASTS) >= 4.5

    asyncio.run(scenario())


CASES = (
    ("running", "2099-01-01T00:00:00Z", "loads itself again every 30 s"),
    ("running", "2020-01-01T00:00:00Z", "not drawn for 15 minutes"),
    ("unfinished", "2099-01-01T00:00:00Z", "nothing trains it here"),
    ("ended", "2099-01-01T00:00:00Z", ""),
)


def test_a_partial_page_says_so_and_only_a_running_one_loads_itself_again(tmp_path: Path) -> None:
    pages = [
        make_report(synthetic_trials()[13:], tmp_path / f"{number}", moment=Moment(drawn, state)).html
        for number, (state, drawn, _) in enumerate(CASES)
    ]

    async def scenario() -> None:
        async with browser.page(700, 700) as tab:
            await tab.call("Page.enable")
            await tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH_TIMERS)
            for page, (_, _, says) in zip(pages, CASES, strict=True):
                await tab.open(page.as_uri())
                await tab.wait_for(READY, 60)
                assert says in await tab.value("document.getElementById('state').innerText")
                loads = await tab.value("waits.includes(30000)")
                assert loads == ("loads itself" in says)

    asyncio.run(scenario())
