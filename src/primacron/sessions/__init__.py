"""The sessions of this process, with their connections, queues and limits."""
