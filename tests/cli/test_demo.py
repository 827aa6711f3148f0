"""The demo's own doors: a port that is taken, found before anything is seeded."""

import socket

from tilehaul.cli.main import main


def test_demo_with_a_port_in_use_says_so_before_it_seeds(capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["demo", "--once", "--port", port]) == 2
    errors = capsys.readouterr().err
    assert port in errors
    assert "in use" in errors
    assert "seeding" not in errors
