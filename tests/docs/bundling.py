"""Pages of another origin than the server's, made from blocks of the documentation."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, Route

from tests.docs.blocks import ROOT

MODULES: Final = ROOT / "tests" / "js" / "node_modules"
#: Where the pages say that theirs come from; the browser is given them without a server.
ORIGIN: Final = "http://localhost:5173"


async def bundle(entry: Path) -> str:
    """Put a module and all that it imports into one script."""
    process = await asyncio.create_subprocess_exec(
        *(MODULES / ".bin" / "esbuild", entry, "--bundle", "--format=iife", "--jsx=automatic", "--log-level=warning"),
        env={**os.environ, "NODE_PATH": str(MODULES)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, told = await process.communicate()
    assert process.returncode == 0, told.decode()
    return out.decode()


async def open_page(browser: Browser, script: str, origin: str = ORIGIN) -> tuple[Page, list[str]]:
    """Open a page of another origin that runs a script; also returns what it writes to the console."""
    page = await browser.new_page()
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text))
    html = f'<!doctype html><meta charset="utf-8"><title>page</title><div id="root"></div><script>{script}</script>'
    await page.route(f"{origin}/", lambda route: route.fulfill(body=html, content_type="text/html"))
    await page.goto(f"{origin}/")
    return page, printed


async def open_folder(browser: Browser, folder: Path) -> tuple[Page, list[str]]:
    """Open a folder's index.html as a page of another origin, with what npm installs; also returns what it logs."""
    (folder / "node_modules").symlink_to(MODULES)

    async def answer(route: Route) -> None:
        file = folder / (urlsplit(route.request.url).path.lstrip("/") or "index.html")
        if file.is_file():
            script = file.suffix in (".js", ".mjs")
            await route.fulfill(body=file.read_bytes(), content_type="text/javascript" if script else "text/html")
        else:
            await route.fulfill(status=404)

    page = await browser.new_page()
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text) if message.type == "log" else None)
    await page.route(f"{ORIGIN}/**", answer)
    await page.goto(f"{ORIGIN}/")
    return page, printed
