"""What lives in this process: sessions, their connections, queues and timers."""
