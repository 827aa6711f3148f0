"""How much each client of a service may ask for: a bucket of tokens for each, and a bounded table of them."""

from collections import OrderedDict

from tilehaul.policy.rate import Rate, RateRule

# Remembered at once, some 400 bytes each. Whoever was heard of longest ago goes first, so a flood of
# addresses never frees the one that floods; who comes back later begins with a full bucket.
CLIENTS_MAX = 20_000


class ClientLimits:
    """The buckets of all clients, by name. Time is an argument, monotonic seconds.

    `refused` counts requests that were not let in.
    """

    __slots__ = ("_clients", "_clients_max", "refused", "rule")

    def __init__(self, rule: RateRule, clients_max: int = CLIENTS_MAX) -> None:
        self.rule = rule
        self.refused = 0
        self._clients_max = clients_max
        self._clients: OrderedDict[str, Rate] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    def take(self, client: str, now_s: float) -> float:
        """Let one request in: 0.0. Or do not: the seconds until the next one will be."""
        rate = self._clients.get(client)
        if rate is None:
            rate = self._clients[client] = Rate(self.rule)
            if len(self._clients) > self._clients_max:
                self._clients.popitem(last=False)
        else:
            self._clients.move_to_end(client)
        if rate.take(now_s):
            return 0.0
        self.refused += 1
        return rate.wait_s(now_s)

    def owe(self, client: str, requests: int) -> None:
        """One request turned out to be worth so many more."""
        rate = self._clients.get(client)
        if rate is not None:
            rate.owe(requests)
