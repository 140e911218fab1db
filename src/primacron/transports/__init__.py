"""From one request or one websocket to the node."""
