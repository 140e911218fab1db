"""
Engine.IO, protocols 4 and 3: no I/O, no event loop, no clock.

Data and tables in, data out: ``packets`` and ``payload`` are the codecs,
``handshake`` reads the query, ``engine`` holds the state tables, ``closing`` the
reasons of a close, ``parcels`` what is encoded once for many receivers.
"""
