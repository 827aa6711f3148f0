"""The wire. Two files, `curl.py` and `curl_loop.py`, know the HTTP library."""
