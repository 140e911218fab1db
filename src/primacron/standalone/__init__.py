"""The endpoint on a server of our own: HTTP by httptools, websocket frames, one port."""
