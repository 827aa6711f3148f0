"""Where Debian puts Chromium, how tests start it (it talks to nobody but them), and what they show in it."""

from pathlib import Path

CHROMIUM = Path("/usr/bin/chromium")
# `make browser-test` brings these: `npm ci` in the folder above.
PACKAGES = Path(__file__).parents[1] / "browser" / "clients" / "node_modules"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
