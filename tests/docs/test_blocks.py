"""Every block of code in the documentation runs as it stands, and does what its page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import (
    channels,  # noqa: F401
    howto,  # noqa: F401
    servers,  # noqa: F401 (registers its claims)
    stage,
    topics,  # noqa: F401
    tutorial,  # noqa: F401
)
from tests.docs.blocks import BLOCKS, NAMED, Block
from tests.docs.claims import CLAIMS, PARTNERS

PROGRAMS = [block for block in BLOCKS if block.language == "python" and block.name not in PARTNERS]
SERVERS = [block for block in PROGRAMS if stage.is_server(block)]
OTHERS = [block for block in PROGRAMS if not stage.is_server(block)]


@pytest.mark.parametrize("block", SERVERS, ids=lambda block: block.place)
async def test_a_server_of_the_pages_does_what_its_page_says(block: Block, tmp_path: Path) -> None:
    async with stage.serving(block, tmp_path) as scene:
        await CLAIMS[block.place](scene)


@pytest.mark.parametrize("block", OTHERS, ids=lambda block: block.place)
async def test_a_program_of_the_pages_runs_to_its_end(block: Block, tmp_path: Path) -> None:
    await stage.run(block, tmp_path)


def test_each_claim_and_each_partner_is_about_a_block() -> None:
    assert set(CLAIMS) <= {block.name for block in SERVERS}
    assert set(NAMED) >= PARTNERS
