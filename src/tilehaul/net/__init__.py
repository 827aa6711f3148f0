"""The wire. One file, `wire.py`, imports the HTTP library."""
