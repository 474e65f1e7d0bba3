"""Render the GUI part of the example corpus: MiniWoB screenshots with element boxes, and recorded action traces.

    pip install playwright miniwob==1.1.0          (miniwob with --no-deps: only its HTML files are used)
    python examples/render_miniwob.py --chromium /usr/bin/chromium --out examples/corpus

A Chromium on PATH (Debian: `apt-get install chromium`) is found by itself. Nothing is fetched: pages are read from the
miniwob package and the browser context is offline.

Decisions:
  * One screenshot a task. The seed of a task is the CRC-32 of its name, so a task's picture does not depend on
    others; the page's clock is frozen, animations are off, the caret is hidden. The same browser and fonts give
    the same bytes.
  * The picture is MiniWoB's task area, 160 x 210 CSS pixels, at two device pixels each: 320 x 420.
  * Boxes are device pixels of the PNG, rounded outwards and cut to it; see miniwob_elements.js for what is listed.
  * A trace is really performed: a policy reads the instruction and the listed elements, mouse and keyboard act on the
    page, and a trace is written only when MiniWoB itself pays a reward above zero.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
import shutil
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

WIDTH, HEIGHT, SCALE = 160, 210, 2
FROZEN_CLOCK = datetime(2024, 5, 14, 9, 30)
LIST_ELEMENTS = (Path(__file__).parent / "miniwob_elements.js").read_text(encoding="utf-8")

SCREENSHOT_TASKS = (
    "book-flight", "buy-ticket", "choose-date", "choose-list", "click-button", "click-button-sequence",
    "click-checkboxes", "click-checkboxes-large", "click-checkboxes-soft", "click-collapsible-2",
    "click-color", "click-dialog", "click-dialog-2", "click-link", "click-menu", "click-option", "click-scroll-list",
    "click-shades", "click-shape", "click-tab", "click-tab-2", "click-test-2", "click-widget", "copy-paste",
    "count-shape", "daily-calendar", "email-inbox", "email-inbox-forward-nl", "enter-date", "enter-password",
    "enter-text", "enter-time", "find-word", "form-sequence", "grid-coordinate", "guess-number",
    "identify-shape", "login-user", "multi-layouts", "navigate-tree", "number-checkboxes", "odd-or-even", "order-food",
    "phone-book", "read-table", "search-engine", "simple-algebra", "simple-arithmetic", "social-media",
    "text-editor", "tic-tac-toe", "use-autocomplete", "use-slider", "use-spinner", "visual-addition",
)  # fmt: skip


@dataclass(frozen=True)
class Element:
    """One visible element; `box` is [x0, y0, x1, y1] in pixels of the PNG, x1 and y1 exclusive."""

    id: str
    role: str
    text: str
    box: list[int]

    @property
    def center(self) -> list[int]:
        x0, y0, x1, y1 = self.box
        return [(x0 + x1) // 2, (y0 + y1) // 2]


@dataclass(frozen=True)
class Action:
    """What a policy does next: click, type (click, then the keys) or select (an option of a drop-down list)."""

    type: str
    element: Element
    text: str | None = None


Policy = Callable[[str, list[Element], int], "Action | None"]
"""(instruction, visible elements, number of actions done) -> next action, or None when it sees nothing left to do."""


def pick(elements: list[Element], role: str, text: str | None = None) -> Element:
    """The first element of a role, and of a text where one is given."""
    for element in elements:
        if element.role == role and (text is None or element.text == text):
            return element
    raise LookupError(f"no {role} with text {text!r} among {[(e.role, e.text) for e in elements]}")


def login_user(instruction: str, elements: list[Element], step: int) -> Action | None:
    user, password = re.findall(r'"([^"]+)"', instruction)
    fields = [e for e in elements if e.role == "textbox"]
    plan = [("type", fields[0], user), ("type", fields[1], password), ("click", pick(elements, "button"), None)]
    return Action(*plan[step]) if step < len(plan) else None


def click_checkboxes(instruction: str, elements: list[Element], step: int) -> Action | None:
    wanted = instruction.removeprefix("Select ").removesuffix(" and click Submit.").split(", ")
    if step < len(wanted):
        return Action("click", pick(elements, "checkbox", wanted[step]))
    return Action("click", pick(elements, "button")) if step == len(wanted) else None


def choose_list(instruction: str, elements: list[Element], step: int) -> Action | None:
    wanted = instruction.removeprefix("Select ").removesuffix(" from the list and click Submit.")
    if step == 0:
        return Action("select", pick(elements, "combobox"), wanted)
    return Action("click", pick(elements, "button")) if step == 1 else None


def use_autocomplete(instruction: str, elements: list[Element], step: int) -> Action | None:
    start, *end = re.findall(r'"([^"]+)"', instruction)
    if step == 0:
        return Action("type", pick(elements, "textbox"), start)
    if step == 1:
        fits = [e for e in elements if e.role not in ("text", "textbox") and e.text.startswith(start)]
        return Action("click", next(e for e in fits if e.text.endswith(end[0] if end else "")))
    return Action("click", pick(elements, "button", "Submit")) if step == 2 else None


def click_tab_2(instruction: str, elements: list[Element], step: int) -> Action | None:
    (wanted,) = re.findall(r'"([^"]+)"', instruction)
    for element in elements:
        if element.role == "link" and element.text == wanted:
            return Action("click", element)
    tabs = [e for e in elements if e.role == "tab"]
    return Action("click", tabs[step + 1]) if step + 1 < len(tabs) else None


def search_engine(instruction: str, elements: list[Element], step: int) -> Action | None:
    name, _ = re.findall(r'"([^"]+)"', instruction)
    (rank,) = re.findall(r"(\d+)(?:st|nd|rd|th) ", instruction)
    page, place = divmod(int(rank) - 1, 3)
    turn = [Action("click", pick(elements, "link", str(page + 1)))] if page and step >= 2 else []
    if step == 0:
        return Action("type", pick(elements, "textbox"), name)
    if step == 1:
        return Action("click", pick(elements, "button"))
    if step == 2 and turn:
        return turn[0]
    results = [e for e in elements if e.role == "link" and len(e.text) > 1]
    return Action("click", results[place]) if step == 2 + len(turn) else None


def email_inbox_delete(instruction: str, elements: list[Element], step: int) -> Action | None:
    (sender,) = re.findall(r"by (\w+)", instruction)
    if step == 0:
        return Action("click", pick(elements, "text", sender))
    return Action("click", pick(elements, "button", "trash")) if step == 1 else None


TRACE_POLICIES: dict[str, tuple[Policy, int]] = {
    "login-user": (login_user, 0),
    "click-checkboxes": (click_checkboxes, 0),
    "choose-list": (choose_list, 1),
    "use-autocomplete": (use_autocomplete, 0),
    "click-tab-2": (click_tab_2, 0),
    "search-engine": (search_engine, 0),
    "email-inbox-delete": (email_inbox_delete, 0),
}
"""Task -> its policy and the variant of the task (part of its seed), chosen so that a few steps are needed."""


def start_task(browser: Browser, task: str, salt: str = "") -> Page:
    """A page with the task generated from its own seed, animations off and far from its time limit."""
    package = importlib.util.find_spec("miniwob")  # located, not imported: importing it needs selenium
    if package is None or package.origin is None:
        raise ModuleNotFoundError("miniwob is not installed: pip install --no-deps miniwob==1.1.0")
    html = Path(package.origin).parent / "html"
    context = browser.new_context(viewport={"width": 500, "height": 320}, device_scale_factor=SCALE, offline=True)
    page = context.new_page()
    page.clock.set_fixed_time(FROZEN_CLOCK)
    page.goto((html / "miniwob" / f"{task}.html").as_uri())
    page.evaluate(
        """seed => {
            core.EPISODE_MAX_TIME = 1e8;
            if (window.jQuery) jQuery.fx.off = true;
            Math.seedrandom(seed);
            core.startEpisodeReal();
            document.querySelector('#click-canvas').style.display = 'none';
        }""",
        zlib.crc32((task + salt).encode()),
    )
    page.wait_for_timeout(150)
    return page


def instruction_of(page: Page) -> str:
    """The task's instruction; tasks with structured goals give a dictionary holding it."""
    told: Any = page.evaluate("() => core.getUtterance()")
    return " ".join((told["utterance"] if isinstance(told, dict) else told).split())


def visible_elements(page: Page) -> list[Element]:
    found: list[dict[str, Any]] = page.evaluate(LIST_ELEMENTS, {"width": WIDTH, "height": HEIGHT})
    elements = []
    for number, entry in enumerate(found, start=1):
        x0, y0, x1, y1 = (side * SCALE for side in entry["box"])
        box = [
            max(0, math.floor(x0)),
            max(0, math.floor(y0)),
            min(WIDTH * SCALE, math.ceil(x1)),
            min(HEIGHT * SCALE, math.ceil(y1)),
        ]
        elements.append(Element(f"e{number}", entry["role"], entry["text"], box))
    return elements


def save_screenshot(page: Page, path: Path) -> None:
    clip: Any = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}
    page.screenshot(path=path, clip=clip, animations="disabled", caret="hide")


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def render_screenshot(
    browser: Browser, task: str, folder: Path, *, name: str | None = None, salt: str = "", shift: int = 0
) -> int:
    """Write NAME.png and NAME.gui.json (NAME: the task); returns the number of elements. `shift` moves boxes right."""
    name = name or task
    page = start_task(browser, task, salt)
    elements = visible_elements(page)
    if shift:
        elements = [replace(e, box=[e.box[0] + shift, e.box[1], e.box[2] + shift, e.box[3]]) for e in elements]
    save_screenshot(page, folder / f"{name}.png")
    sidecar = {
        "format": "longreel-gui/1",
        "width": WIDTH * SCALE,
        "height": HEIGHT * SCALE,
        "app": f"miniwob/{task}",
        "instruction": instruction_of(page),
        "elements": [asdict(e) for e in elements],
    }
    write_json(folder / f"{name}.gui.json", sidecar)
    page.context.close()
    return len(elements)


def render_broken(browser: Browser, folder: Path) -> None:
    """A screenshot whose boxes all lie right of it, as a recorder with a wrong window offset would write them."""
    folder.mkdir(parents=True, exist_ok=True)
    render_screenshot(browser, "login-user", folder, name="boxes-outside", salt="/broken", shift=2 * WIDTH * SCALE)


def perform(page: Page, action: Action) -> None:
    """Carry an action out with mouse and keyboard at the element's centre (a list opens outside the page: by name)."""
    x, y = (coordinate / SCALE for coordinate in action.element.center)
    if action.type == "select":
        page.locator("select").first.select_option(label=action.text)
    else:
        page.mouse.click(x, y)
    if action.type == "type" and action.text is not None:
        page.keyboard.type(action.text)
    page.wait_for_timeout(500)
    page.evaluate("() => { core.cover_div.style.display = 'none'; }")


def record_trace(browser: Browser, task: str, policy: Policy, variant: int, folder: Path) -> int:
    """Perform the task and write step-*.png and trace.json; returns the number of actions. Raises if it fails."""
    page = start_task(browser, task, salt=f"/trace-{variant}")
    goal = instruction_of(page)
    folder.mkdir(parents=True, exist_ok=True)
    steps: list[dict[str, Any]] = []
    while True:
        elements = visible_elements(page)
        save_screenshot(page, folder / f"step-{len(steps)}.png")
        finished = bool(page.evaluate("() => WOB_DONE_GLOBAL"))
        action = None if finished else policy(goal, elements, len(steps))
        told: dict[str, Any] = {"type": "done"}
        if action is not None:
            told = {"type": action.type, "element": action.element.id, "point": action.element.center}
            told |= {"text": action.text} if action.text is not None else {}
        steps.append(
            {
                "screenshot": f"step-{len(steps)}.png",
                "width": WIDTH * SCALE,
                "height": HEIGHT * SCALE,
                "elements": [asdict(e) for e in elements],
                "action": told,
            }
        )
        if action is None:
            break
        perform(page, action)
    reward = float(page.evaluate("() => WOB_RAW_REWARD_GLOBAL"))
    page.context.close()
    if reward <= 0:
        raise RuntimeError(f"{task}: reward {reward} after {len(steps) - 1} actions for {goal!r}")
    trace = {"format": "longreel-gui-trace/1", "app": f"miniwob/{task}", "goal": goal, "steps": steps, "success": True}
    write_json(folder / "trace.json", trace)
    return len(steps) - 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Render MiniWoB screenshots and record traces for the example corpus.")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of the browser (default: on PATH)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "corpus", help="corpus folder")
    parser.add_argument("--only", nargs="*", help="render only these tasks")
    arguments = parser.parse_args()
    if arguments.chromium is None:
        parser.error("no chromium on PATH: install Debian's `chromium`, or give --chromium")
    (arguments.out / "gui").mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox", "--disable-gpu"])
        for task in SCREENSHOT_TASKS:
            if arguments.only is None or task in arguments.only:
                print(f"gui/{task}.png: {render_screenshot(browser, task, arguments.out / 'gui')} elements", flush=True)
        for task, (policy, variant) in TRACE_POLICIES.items():
            if arguments.only is None or task in arguments.only:
                actions = record_trace(browser, task, policy, variant, arguments.out / "traces" / task)
                print(f"traces/{task}: {actions} actions", flush=True)
        if arguments.only is None or "boxes-outside" in arguments.only:
            render_broken(browser, arguments.out / "broken")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
