"""The endpoint as a server of our own: HTTP on httptools, websocket frames, one port."""

import os

from primacron.standalone.plain import SWITCH, load_plain

if os.environ.get(SWITCH) == "1":
    load_plain("primacron.standalone.frames")
