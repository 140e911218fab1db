"""
Makes the picture of the README: two windows of the auction, side by side.

    python -m docs.screenshot [where]

It needs Chromium (``scripts/install-debian chromium``), and looks best where
the fonts of the page are installed (``fonts-inter``, ``fonts-urw-base35``).
"""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, expect

from tests.support.browser import chromium
from tests.support.program import running

WINDOW = {"width": 620, "height": 975}
IMAGE = Path(__file__).parent / "images" / "demo.png"

_STAGE = """
<!doctype html>
<style>
  body {{ margin: 0; padding: 36px; display: flex; align-items: flex-start; gap: 32px; width: max-content;
         background: linear-gradient(135deg, #c9d3cd, #a9b7bd); }}
  div {{ border-radius: 12px; overflow: hidden; box-shadow: 0 18px 44px rgb(20 30 40 / .34); }}
  header {{ display: flex; gap: 8px; padding: 12px 16px; background: {bars[0]}; }}
  div + div header {{ background: {bars[1]}; }}
  i {{ width: 11px; height: 11px; border-radius: 50%; background: #8888; }}
  img {{ display: block; width: 620px; }}
</style>
<div><header><i></i><i></i><i></i></header><img src="data:image/png;base64,{images[0]}"></div>
<div><header><i></i><i></i><i></i></header><img src="data:image/png;base64,{images[1]}"></div>
"""


async def enter(browser: Browser, address: str, name: str, scheme: Literal["light", "dark"]) -> Page:
    """Open a window and enter the room."""
    page = await browser.new_page(viewport=WINDOW, color_scheme=scheme, device_scale_factor=1.25)  # type: ignore[arg-type]
    await page.goto(address)
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Enter").click()
    await expect(page.get_by_role("status").first).to_have_text("live")
    return page


async def bid(page: Page, euros: str) -> None:
    """Type a bid and place it."""
    await page.get_by_label("Your bid").fill(euros)
    await page.get_by_role("button", name="Place bid").click()


async def play(browser: Browser, address: str) -> tuple[Page, Page]:
    """Let two people bid against each other until it looks like an auction."""
    left = await enter(browser, address, "Ada", "light")
    right = await enter(browser, address, "Grace", "dark")
    for page, euros in ((left, 120), (right, 200), (left, 280), (right, 350)):
        await bid(page, str(euros))
        for each in (left, right):
            await expect(each.locator("#amount")).to_have_text(f"€{euros}")
    await bid(left, "360")
    await expect(left.get_by_role("alert")).to_contain_text("at least")
    for page, (x, y) in ((left, (0.72, 0.26)), (right, (0.36, 0.62))):
        box = await page.locator("#picture").bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=4)
        await page.wait_for_timeout(60)
        await page.mouse.move(box["x"] + box["width"] * x + 1, box["y"] + box["height"] * y)
    for page in (left, right):
        await expect(page.locator(".pointer")).to_have_count(1)
    return left, right


async def main(where: Path) -> None:
    """Take the picture."""
    async with running("-m", "examples.auction", "--port", "0", "--silence", "3600") as demo, chromium() as browser:
        address = (await demo.wait_for(r"http://\S+/ "))[0].strip()
        pages = await play(browser, address)
        await pages[0].wait_for_timeout(600)  # the movements of the page have ended then
        images = [base64.b64encode(await page.screenshot()).decode() for page in pages]
        stage = await browser.new_page(viewport={"width": 1360, "height": 1040})
        await stage.set_content(_STAGE.format(images=images, bars=("#e9e5dc", "#26292e")))
        await stage.locator("body").screenshot(path=where)


if __name__ == "__main__":
    image = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGE
    asyncio.run(main(image))
    print(f"{image}: {image.stat().st_size / 1000:.0f} kB")
