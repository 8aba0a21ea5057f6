"""The picture of the figures: bars with whiskers from least to most, and cost against a zone's size.

Plain SVG on a ground of its own, light or dark as the reader's system is.
"""

import math
import os
import statistics
from html import escape

from .rate import ROWS
from .rig import told
from .summary import summaries

WIDTH, MARGIN, LINE = 900, 24, 17
NAMES = {"backstop": "Backstop", "knot": "Knot", "nsd": "NSD", "bind": "BIND", "echo": "bare echo"}
STYLE = """
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #1f2328 }
.ground { fill: #ffffff } .title { font-size: 17px; font-weight: bold } .row { font-weight: bold } .small { font-size: 11px; fill: #59636e }
.backstop { fill: #2563eb; stroke: #2563eb } .uring { fill: #60a5fa } .knot { fill: #d97706; stroke: #d97706 }
.nsd { fill: #059669; stroke: #059669 } .bind { fill: #9333ea; stroke: #9333ea } .echo { fill: #8b949e; stroke: #8b949e }
.bar { stroke: none } .line { fill: none; stroke-width: 2 }
.whisker { stroke: #1f2328; stroke-width: 1.2; fill: none } .axis { stroke: #8b949e; stroke-width: 1; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ground { fill: #0d1117 } .small { fill: #9198a1 } .whisker { stroke: #e6edf3 }
}
"""


def picture(options):
    path = os.path.join(options.out, "figures.svg")
    draw(told(options.files), path)
    print(path)


def draw(figures, path):
    parts, height = [], MARGIN
    for section in (heading, bars, curves):
        drawn, height = section(figures, height)
        parts += drawn
    with open(path, "w") as out:
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + MARGIN}" width="{WIDTH}" '
                  f'height="{height + MARGIN}"><style>{STYLE}</style><rect class="ground" width="100%" height="100%" rx="8"/>\n'
                  + "\n".join(parts) + "\n</svg>\n")


def words(x, y, text, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def facts(figures):
    """One line of where they come from."""
    machine = next((figure for figure in figures if figure["bench"] == "machine"), None)
    if not machine:
        return ""
    peers = ", ".join(f"{NAMES[kind]} {version}" for kind, version in machine["versions"].items())
    return (f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['linux']}; {peers}; {machine['date']}, "
            f"load average before {machine['load_average']}")


def heading(figures, top):
    return [words(MARGIN, top + 14, "Backstop beside its peers", "title"), words(MARGIN, top + 34, facts(figures), "small")], top + 44


def bars(figures, top):
    """A panel for each row: replies/s on the left, CPU time on the right, a bar for each contender."""
    parts, rows = [], {}
    for summary in summaries(figures):
        rows.setdefault(summary.row, []).append(summary)
    for row, contenders in rows.items():
        left, right, room = MARGIN + 120, WIDTH / 2 + 90, WIDTH / 2 - 260
        parts += [words(MARGIN, top + 14, ROWS[row].what, "row"),
                  words(left, top + 30, "replies/s; the best peer is 1", "small"),
                  words(right, top + 30, "CPU in user space a reply, us; less is better", "small")]
        top += 36
        scale = max(max(it.ratio or it.replies) for it in contenders)
        costly = max(statistics.median(it.user) for it in contenders) * 1.2 or 1
        for it in contenders:
            rate = f"{statistics.median(it.ratio):.2f} ({statistics.median(it.replies) / 1000:,.0f} k/s)" if it.ratio \
                else f"{statistics.median(it.replies) / 1000:,.0f} k/s"
            parts += [words(left - 8, top + 12, called(it.server), anchor="end"),
                      *bar(left, top, it.ratio or it.replies, scale, room, it.server, rate),
                      *bar(right, top, it.user, costly, room, it.server, f"{statistics.median(it.user):.2f}")]
            top += LINE
        if any(it.ratio for it in contenders):
            x = left + room / scale
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top - LINE * len(contenders)}" y2="{top}"/>')
        top += 12
    return parts, top


def called(server):
    kind, _, io = server.partition("-")
    return f"{NAMES[kind]}, {io}" if kind == "backstop" and io else NAMES[kind]


def bar(x, y, values, scale, room, server, label):
    """As long as the median, with a whisker from the least to the most."""
    length = lambda value: min(value / scale, 1) * room
    kind = " ".join(server.split("-"))
    least, most, middle = x + length(min(values)), x + length(max(values)), y + LINE / 2
    return [f'<rect class="{kind} bar" x="{x}" y="{y + 2}" width="{length(statistics.median(values)):.1f}" height="{LINE - 5}"/>',
            f'<path class="whisker" d="M{least:.1f} {middle}H{most:.1f}M{least:.1f} {middle - 3}v6M{most:.1f} {middle - 3}v6"/>',
            words(max(most, x + length(statistics.median(values))) + 6, y + 12, label)]


CURVES = (  # bench, what is along, what is up, its name
    ("ixfr", "names", "median_ms", "a one-record IXFR visible, ms, by names in the zone"),
    ("scale", "records", "octets_a_record", "memory, octets a record, by records in the zone"),
)


def curves(figures, top):
    """Cost against the size of the zone, both axes by powers of ten."""
    parts, width, tall, found = [], WIDTH / 2 - 2 * MARGIN, 150, False
    for i, (bench, along, up, name) in enumerate(CURVES):
        lines = {}
        for figure in figures:
            if figure["bench"] == bench and up in figure:
                lines.setdefault(figure["server"], {}).setdefault(figure[along], []).append(figure[up])
        if not lines:
            continue
        found = True
        x0, y0 = MARGIN + 30 + i * WIDTH / 2, top + 30
        points = {kind: sorted((size, statistics.median(costs)) for size, costs in line.items()) for kind, line in lines.items()}
        parts.append(words(x0 - 30, top + 14, name, "row"))
        sizes, costs = ({point[axis] for line in points.values() for point in line} for axis in (0, 1))
        across, upward = powers(sizes), powers(costs)
        place = lambda size, cost: (x0 + share(size, across) * (width - 110), y0 + tall - share(cost, upward) * tall)
        for power in range(across[0], across[1] + 1):
            x, _ = place(10 ** power, 10 ** upward[0])
            parts += [f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y0}" y2="{y0 + tall}"/>',
                      words(x, y0 + tall + 16, f"{10 ** power:,}", "small", "middle")]
        for power in range(upward[0], upward[1] + 1):
            _, y = place(10 ** across[0], 10 ** power)
            parts += [f'<line class="axis" x1="{x0}" x2="{x0 + width - 110}" y1="{y:.1f}" y2="{y:.1f}"/>',
                      words(x0 - 6, y + 4, f"{10 ** power:g}", "small", "end")]
        lowest = y0 + tall + LINE
        for kind, line in sorted(points.items(), key=lambda entry: entry[1][-1][1]):
            spots = [place(*point) for point in line]
            parts.append(f'<polyline class="{kind} line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>')
            parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots]
            # Labels one above the other, however near the lines end.
            lowest = min(lowest - LINE + 3, spots[-1][1] + 4)
            parts.append(words(spots[-1][0] + 8, lowest, f"{NAMES[kind]} {line[-1][1]:.3g}"))
    return parts, top + tall + 60 if found else top


def powers(values):
    """The powers of ten around them."""
    low, high = (math.log10(max(value, 0.001)) for value in (min(values), max(values)))
    return math.floor(low), max(math.ceil(high), math.floor(low) + 1)


def share(value, around):
    return (math.log10(max(value, 0.001)) - around[0]) / (around[1] - around[0])
