"""The rules of channels, apart from I/O, event loop and clock."""
