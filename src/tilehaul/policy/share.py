"""The part of what a host permits that is one process's, where several ask it."""

from dataclasses import dataclass

from tilehaul.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Share:
    """This process is the `index`-th of `count`, from 0. Raises ConfigError when it is none of them."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(f"a share must be one of 0 to {self.count - 1}, not {self.index}")

    def of_permits(self, whole: int) -> int:
        """The parts of all are `whole` together, but for this: each has one at least."""
        return max(1, (whole + self.count - 1 - self.index) // self.count)

    def of_rate(self, whole: float) -> float:
        return whole / self.count


WHOLE = Share()
