"""`python -m tilehaul`."""

from tilehaul.cli.main import run

run()
