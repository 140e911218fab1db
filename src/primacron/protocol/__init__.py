"""
Engine.IO, protocols 4 and 3: no I/O, no event loop, no clock.

Data and tables in, data out: ``packets`` and ``payload`` are the codecs,
``handshake`` parses the query, ``engine`` holds the state tables, ``close_reasons``
why connections end, ``outgoing`` the packets that are encoded once for many receivers.
"""
