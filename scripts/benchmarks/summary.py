"""What the figures of `rate` say, as medians and ratios: for a terminal, for README, for the picture."""

import statistics
from typing import NamedTuple, Optional

PEERS = ("knot", "nsd", "bind", "knot-xdp")


class Summary(NamedTuple):
    """A contender in a row, at the load that brought most replies. Lists have a value a round."""

    row: str
    server: str
    replies: list
    ratio: list  # of the best peer's replies, in the same round
    user: list
    user_ratio: list  # of the user time of the peer that needs least
    system: list
    busy: list
    beyond: Optional[float]  # replies at the highest load offered, of those
    p50: list  # at half of them
    p99: list


def summaries(figures):
    """A summary of each contender in each row, in the order they were measured first."""
    measured = {}
    for figure in figures:
        if figure["bench"] == "rate" and figure["load"] != "idle":
            loads = measured.setdefault(figure["row"], {}).setdefault(figure["server"], {})
            loads.setdefault(figure["load"], []).append(figure)
    return [summary for row, servers in measured.items() for summary in row_of(row, servers)]


def row_of(row, servers):
    most = {server: max((loads for load, loads in loads.items() if load != "half"), key=median_of("replies_s"))
            for server, loads in servers.items()}
    peers = [server for server in most if server in PEERS]
    best = max(peers, key=lambda peer: median_of("replies_s")(most[peer]), default=None)
    least = min(peers, key=lambda peer: median_of("user_us")(most[peer]), default=None)
    for server, loads in servers.items():
        column = lambda key: [figure[key] for figure in most[server]]
        over = lambda key, peer: [figure[key] / max(other[key], 0.001) for figure, other in zip(most[server], most[peer])] if peer else []
        offered = [load for load in loads if isinstance(load, int)]
        beyond = median_of("replies_s")(loads[max(offered)]) / statistics.median(column("replies_s")) if offered else None
        half = loads.get("half", [])
        yield Summary(row, server, column("replies_s"), over("replies_s", best), column("user_us"), over("user_us", least),
                      column("system_us"), column("busy_percent"), beyond,
                      [figure["p50_us"] for figure in half if "p50_us" in figure],
                      [figure["p99_us"] for figure in half if "p99_us" in figure])


def median_of(key):
    return lambda figures: statistics.median(figure[key] for figure in figures)


def one(values, digits):
    return f"{statistics.median(values):,.{digits}f}" if values else "-"


def spread(values):
    return f"{one(values, 2)} ({min(values):.2f}-{max(values):.2f})" if values else "-"


CELLS = {  # what is told of a contender, in so many tables
    "replies/s, of the best peer's in the same round": lambda it: spread(it.ratio) if it.ratio else one(it.replies, 0),
    "replies/s": lambda it: one(it.replies, 0),
    "CPU a reply, us: in user space + in the kernel": lambda it: f"{one(it.user, 2)} + {one(it.system, 2)}",
    "in user space, of the peer's that needs least": lambda it: spread(it.user_ratio),
    "how busy its core was, %": lambda it: one(it.busy, 0),
    "replies/s at the highest load offered, of its most": lambda it: f"{it.beyond:.2f}" if it.beyond else "-",
    "latency at half of its most, us: median / 99th percentile": lambda it: f"{one(it.p50, 0)} / {one(it.p99, 0)}" if it.p50 else "-",
}


def tables(figures, titles):
    """A table of each thing that is told: a line a row, a column a contender."""
    found = list(summaries(figures))
    servers = list(dict.fromkeys(it.server.split("-")[0] if it.server != "backstop-uring" else it.server for it in found))
    for what, cell in CELLS.items():
        lines = {}
        for it in found:
            server = it.server if it.server in servers else it.server.split("-")[0]
            lines.setdefault(it.row, {})[server] = cell(it)
        lines = [[titles[row], *(line.get(server, "-") for server in servers)]
                 for row, line in lines.items() if set(line.values()) != {"-"}]
        if lines:
            yield what, ["", *servers], lines


def text(figures, titles):
    """The tables for a terminal."""
    out = []
    for what, head, lines in tables(figures, titles):
        widths = [max(map(len, column)) for column in zip(head, *lines)]
        out += ["", what] + ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in [head, *lines]]
    return "\n".join(out)


def markdown(figures, titles):
    """The tables for README."""
    out = []
    for what, head, lines in tables(figures, titles):
        rule = ["---"] * len(head)
        out += [f"{what[0].upper()}{what[1:]}:", ""] + [f"| {' | '.join(line)} |" for line in [head, rule, *lines]] + [""]
    return "\n".join(out)
