"""What the figures of `rate` say, as medians and ratios: tables for a terminal and for README."""

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
    """A summary of each contender in each row, in the order of the rows' measuring."""
    measured = {}
    for figure in figures:
        if figure["bench"] == "rate" and figure["load"] != "idle":
            loads = measured.setdefault(figure["row"], {}).setdefault(figure["server"], {})
            loads.setdefault(figure["load"], []).append(figure)
    return [summary for row, servers in measured.items() for summary in summaries_of(row, servers)]


def summaries_of(row, servers):
    """Those of one row: `servers` has the figures by server and load."""
    replies = lambda figures: median(figures, "replies_s")
    most = {server: max((figures for load, figures in loads.items() if load != "half"), key=replies)
            for server, loads in servers.items()}
    peers = [server for server in most if server in PEERS]
    best = max(peers, key=lambda peer: replies(most[peer]), default=None)
    least = min(peers, key=lambda peer: median(most[peer], "user_us"), default=None)
    for server in sorted(servers, key=ORDER.index):
        own, half = most[server], servers[server].get("half", [])
        offered = [load for load in servers[server] if isinstance(load, int)]
        yield Summary(
            row=row,
            server=server,
            replies=column(own, "replies_s"),
            ratio=ratios(own, most.get(best, ()), "replies_s"),
            user=column(own, "user_us"),
            user_ratio=ratios(own, most.get(least, ()), "user_us"),
            system=column(own, "system_us"),
            busy=column(own, "busy_percent"),
            beyond=replies(servers[server][max(offered)]) / replies(own) if offered else None,
            p50=column(half, "p50_us"),
            p99=column(half, "p99_us"),
        )


ORDER = ("backstop", "backstop-mmsg", "backstop-uring", "backstop-xdp", "knot", "knot-xdp", "nsd", "bind",
         "echo-mmsg", "echo-xdp")


def column(figures, key):
    return [figure[key] for figure in figures if key in figure]


def ratios(figures, others, key):
    """Round by round."""
    return [figure[key] / max(other[key], 0.001) for figure, other in zip(figures, others)]


def median(figures, key):
    return statistics.median(column(figures, key))


def one(values, digits=0):
    return f"{statistics.median(values):,.{digits}f}" if values else "-"


def spread(values):
    return f"{one(values, 2)} ({min(values):.2f}-{max(values):.2f})" if values else "-"


CELLS = {  # what is told of a contender, a table each
    "replies/s, of the best peer's in the same round": lambda it: spread(it.ratio),
    "replies/s": lambda it: one(it.replies),
    "CPU a reply, us: in user space + in the kernel": lambda it: f"{one(it.user, 2)} + {one(it.system, 2)}",
    "in user space, of the peer's that needs least": lambda it: spread(it.user_ratio),
    "how busy its core was, %": lambda it: one(it.busy),
    "replies/s at the highest load offered, of its most": lambda it: f"{it.beyond:.2f}" if it.beyond else "-",
    "latency at half of its most, us: median / 99th percentile":
        lambda it: f"{one(it.p50)} / {one(it.p99)}" if it.p50 else "-",
}


def tables(figures, titles):
    """Each table: what it tells, its head, its lines; a line a row, a column a contender."""
    found = summaries(figures)
    # There is one way past the kernel, but two through it.
    named = lambda it: it.server if it.server == "backstop-uring" else it.server.split("-")[0]
    servers = list(dict.fromkeys(map(named, sorted(found, key=lambda it: ORDER.index(it.server)))))
    for what, cell in CELLS.items():
        lines = {}
        for it in found:
            lines.setdefault(it.row, {})[named(it)] = cell(it)
        yield what, ["", *servers], [[titles[row], *(line.get(server, "-") for server in servers)]
                                     for row, line in lines.items() if set(line.values()) != {"-"}]


COSTS = (  # bench, what is along, what it costs, in words
    ("ixfr", "names", "median_ms", "a one-record IXFR visible, ms, by names in the zone"),
    ("scale", "names", "octets_a_record", "memory, octets a record, by delegations of three records"),
)


def costs(figures):
    """What each of `COSTS` is for zones of several sizes: its words, and (size, cost) by server."""
    for bench, along, cost, what in COSTS:
        found = {}
        for figure in figures:
            if figure["bench"] == bench and cost in figure:
                found.setdefault(figure["server"], {}).setdefault(figure[along], []).append(figure[cost])
        yield what, {server: sorted((size, statistics.median(costs)) for size, costs in sizes.items())
                     for server, sizes in found.items()}


def cost_tables(figures):
    """The same as tables: a line a size, a column a server."""
    for what, lines in costs(figures):
        sizes = sorted({size for line in lines.values() for size, _ in line})
        yield what, ["", *lines], [[f"{size:,}", *(f"{dict(line)[size]:.3g}" if size in dict(line) else "-"
                                                   for line in lines.values())] for size in sizes]


def text(figures, titles):
    """The tables for a terminal."""
    out = []
    for what, head, lines in tables(figures, titles):
        widths = [max(map(len, column)) for column in zip(head, *lines)]
        padded = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in [head, *lines]]
        out += ["", what, *padded] if lines else []
    return "\n".join(out)


def markdown(figures, titles):
    """The tables for README."""
    out = []
    for what, head, lines in [*tables(figures, titles), *cost_tables(figures)]:
        drawn = [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines]]
        out += [f"{what[0].upper()}{what[1:]}:", "", *drawn, ""] if lines else []
    return "\n".join(out)
