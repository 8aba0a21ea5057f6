"""All that README shows, measured anew: its picture and the tables below it."""

import os
import re

from .ixfr import ixfr
from .picture import draw, facts
from .rate import WORDS, rate
from .rig import KEPT, ROOT, told
from .summary import markdown

BEGIN, END = "<!-- figures: scripts/bench figures writes what follows -->\n", "<!-- end of figures -->\n"


def quicken(options):
    """What takes minutes rather than an hour."""
    options.rounds, options.seconds, options.names, options.rates = 3, 1, 100000, [150000, 400000]
    options.sizes, options.changes = [1000, 100000], 15
    options.rows = [row for row in options.rows if row not in ("tcp-signed", "veth-signed", "veth-tcp")]


def figures(options):
    rate(options)
    ixfr(options)
    # What other runs have kept in the same folder is shown as well.
    others = (os.path.join(options.out, f"{bench}.jsonl") for bench in ("scale", "zones"))
    show(told(KEPT + [path for path in others if os.path.exists(path)]))


def show(measured):
    """Draws the picture, and puts the tables between their marks in README."""
    draw(measured, os.path.join(ROOT, "benches", "figures.svg"))
    readme = os.path.join(ROOT, "README.md")
    with open(readme) as old:
        text = old.read()
    machine = measured[0]
    where = f"{facts(measured)} (`{machine['command']}`)."
    if machine["load_average"] > 1.5:
        where += " The machine was busy with other work meanwhile: only what is far apart means something."
    shown = f"{BEGIN}\n{where}\n\n{markdown(measured, WORDS)}\n{END}"
    with open(readme, "w") as new:
        new.write(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: shown, text, flags=re.S))
