"""Random fault schedules against the whole engine: `make soak`. `run.py` says what must hold."""
