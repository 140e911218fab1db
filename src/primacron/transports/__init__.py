"""From a request or websocket to the node."""
