"""The picture of the figures: bars with whiskers from least to most, and cost against a zone's size.

Plain SVG on a ground of its own, light or dark as the reader's system is.
"""

import math
import os
import statistics
from html import escape

from .rate import WORDS
from .rig import told
from .summary import costs, summaries

WIDTH, MARGIN, LINE = 900, 24, 17
NAMES = {"backstop": "Backstop", "knot": "Knot", "nsd": "NSD", "bind": "BIND", "echo": "bare echo"}
STYLE = """
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 17px; font-weight: bold } .row { font-weight: bold } .small { font-size: 11px; fill: #59636e }
.ground { fill: #ffffff } .whisker { stroke: #1f2328; stroke-width: 1.2; fill: none }
.backstop { fill: #2563eb; stroke: #2563eb } .uring { fill: #60a5fa } .knot { fill: #d97706; stroke: #d97706 }
.nsd { fill: #059669; stroke: #059669 } .bind { fill: #9333ea; stroke: #9333ea }
.echo { fill: #8b949e; stroke: #8b949e } .bar { stroke: none } .line { fill: none; stroke-width: 2 }
.axis { stroke: #8b949e; stroke-width: 1; stroke-dasharray: 3 3 }
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
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + MARGIN}">'
                  f'<style>{STYLE}</style><rect class="ground" width="100%" height="100%" rx="8"/>\n')
        out.write("\n".join([*parts, "</svg>\n"]))


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
    title = words(MARGIN, top + 14, "Backstop beside its peers", "title")
    return [title, words(MARGIN, top + 34, facts(figures), "small")], top + 44


def bars(figures, top):
    """A panel for each row: replies/s on the left, CPU time on the right, a bar for each contender."""
    parts, rows = [], {}
    for summary in summaries(figures):
        rows.setdefault(summary.row, []).append(summary)
    for row, contenders in rows.items():
        left, right, room = MARGIN + 120, MARGIN + 490, 230
        parts += [words(MARGIN, top + 14, WORDS[row], "row"),
                  words(left, top + 30, "replies/s; the best peer is 1", "small"),
                  words(right, top + 30, "CPU in user space a reply, us; less is better", "small")]
        top += 36
        scale = max(max(it.ratio or it.replies) for it in contenders)
        costly = max(statistics.median(it.user) for it in contenders) * 1.2 or 1
        for it in contenders:
            rate = f"{statistics.median(it.replies) / 1000:,.0f} k/s"
            rate = f"{statistics.median(it.ratio):.2f} ({rate})" if it.ratio else rate
            parts += [words(left - 8, top + 12, called(it.server), anchor="end"),
                      *bar(left, top, it.ratio or it.replies, scale, room, it.server, rate),
                      *bar(right, top, it.user, costly, room, it.server, f"{statistics.median(it.user):.2f}")]
            top += LINE
        if any(it.ratio for it in contenders):
            x, high = left + room / scale, LINE * len(contenders)
            parts.append(f'<path class="axis" d="M{x:.1f} {top}v-{high}"/>')
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
    wide, caps = length(statistics.median(values)), "".join(f"M{end:.1f} {middle - 3}v6" for end in (least, most))
    return [f'<rect class="{kind} bar" x="{x}" y="{y + 2}" width="{wide:.1f}" height="{LINE - 5}"/>',
            f'<path class="whisker" d="M{least:.1f} {middle}H{most:.1f}{caps}"/>',
            words(most + 6, y + 12, label)]


def curves(figures, top):
    """A panel for each cost that grows or does not."""
    parts = []
    for i, (name, lines) in enumerate(costs(figures)):
        if lines:
            x = MARGIN + i * WIDTH / 2
            parts += [words(x, top + 14, name, "row"), *panel(lines, x + 30, top + 30)]
    return parts, top + TALL + 60 if parts else top


TALL, WIDE = 150, 290


def panel(lines, left, top):
    """Axes by powers of ten, and a line for each server: its points are a size and a cost."""
    across = powers([size for line in lines.values() for size, _ in line])
    upward = powers([cost for line in lines.values() for _, cost in line])
    place = lambda size, cost: (left + share(size, across) * WIDE, top + TALL - share(cost, upward) * TALL)
    for power in range(across[0], across[1] + 1):
        x, _ = place(10 ** power, 10 ** upward[0])
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + TALL}"/>'
        yield words(x, top + TALL + 16, f"{10 ** power:,}", "small", "middle")
    for power in range(upward[0], upward[1] + 1):
        _, y = place(10 ** across[0], 10 ** power)
        yield f'<line class="axis" x1="{left}" x2="{left + WIDE}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield words(left - 6, y + 4, f"{10 ** power:g}", "small", "end")
    lowest = top + TALL + LINE
    for server, line in sorted(lines.items(), key=lambda entry: entry[1][-1][1]):
        spots = [place(*point) for point in line]
        yield f'<polyline class="{server} line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>'
        yield from (f'<circle class="{server}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots)
        # Labels one above the other, however near the lines end.
        lowest = min(lowest - LINE + 3, spots[-1][1] + 4)
        yield words(spots[-1][0] + 8, lowest, f"{NAMES[server]} {line[-1][1]:.3g}")


def powers(values):
    """The powers of ten around them."""
    low, high = (math.log10(max(value, 0.001)) for value in (min(values), max(values)))
    return math.floor(low), max(math.ceil(high), math.floor(low) + 1)


def share(value, around):
    return (math.log10(max(value, 0.001)) - around[0]) / (around[1] - around[0])
