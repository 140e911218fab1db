"""The endpoint as a server of our own: HTTP on httptools, websocket frames, one port."""
