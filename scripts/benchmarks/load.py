"""The load: what is asked, by dnsperf and by kxdpgun, and what came of it."""

import random
import re
import subprocess
from typing import NamedTuple, Optional

from .rig import LOAD_CPU, ZONE

QUESTIONS_MAX = 1000000
QUESTIONS_POPULAR = 200000


class Load(NamedTuple):
    """What to put on a server."""

    to: tuple
    questions: str
    seconds: float
    offered: Optional[int] = None  # queries a second; None: as many as the server answers
    tcp: bool = False
    dnssec: bool = False
    inside: tuple = ()  # what runs a command in the namespace to load from
    each: bool = False  # note the latency of each reply


class Came(NamedTuple):
    """What came of it."""

    offered_s: float
    replies_s: float
    replies: int
    latencies_us: list  # in order, if they were to be noted


def questions(path, names, dnssec):
    """So many names of the zone in mixed order; of a signed zone one in five does not exist."""
    write(path, dnssec, (f"x{i}" if dnssec and i % 5 == 0 else f"h{i * 7919 % names}"
                         for i in range(min(names, QUESTIONS_MAX))))


def popular(path, names, dnssec):
    """Names as they are asked for: the n-th most popular 1/n times as often as the first (Zipf); of
    a signed zone one in five does not exist."""
    chance = random.Random(1)
    of = lambda i: "x" if dnssec and i % 5 == 0 else "h"
    write(path, dnssec, (f"{of(i)}{int(names ** chance.random()) * 7919 % names}" for i in range(QUESTIONS_POPULAR)))


def write(path, dnssec, labels):
    with open(path, "w") as plain, open(path + ".flags", "w") as flags:
        for label in labels:
            plain.write(f"{label}.{ZONE} A\n")
            flags.write(f"{label}.{ZONE} A{' D' if dnssec else ''}\n")


def dnsperf(load):
    """20 sockets or connections with 200 queries in flight together. None, if it did not get going,
    as happens over TCP, seldom with two threads: 20 to 70 queries are all that it sends then."""
    told = run(load, "dnsperf", "-s", load.to[0], "-p", load.to[1], "-m", "tcp" if load.tcp else "udp",
               "-d", load.questions, "-l", load.seconds, "-c", 20, "-q", 200, "-t", 1, "-T", 2 if load.tcp else 1,
               *(["-D"] if load.dnssec else []), *(["-Q", load.offered] if load.offered else []),
               *(["-v"] if load.each else []))
    find = lambda what: float(re.search(what + r":\s+([\d.]+)", told).group(1))
    wrong = set(re.findall(r"([A-Z]+) \d+ \(", told)) - {"NOERROR", "NXDOMAIN"}
    if wrong:
        raise SystemExit(f"{load.to} replies with {', '.join(wrong)}")
    seconds, replies = find(r"Run time \(s\)"), int(find("Queries completed"))
    if replies < 1000 * seconds:
        return None
    latencies = sorted(1e6 * float(text) for text in re.findall(r"^> \S+ .* ([\d.]+)$", told, re.M))
    return Came(find("Queries sent") / seconds, replies / seconds, replies, latencies)


def kxdpgun(load):
    """As many queries a second as were asked for, past the network stack of the loading side. Over
    TCP each has a connection of its own. None, if not one was answered."""
    told = run(load, "kxdpgun", "-t", load.seconds, "-Q", load.offered, "-b", 1 if load.tcp else 32,
               "-i", load.questions + ".flags", "-p", load.to[1], *(["-T"] if load.tcp else []), load.to[0])
    # It leaves its program on the interface.
    subprocess.run([*load.inside, "ip", "link", "set", "veth-l", "xdp", "off"], capture_output=True)
    find = lambda what: int(re.search(what + r":\s+(\d+)", told).group(1))
    replies = find("total replies")
    if not replies:
        return None
    return Came(find("total (?:queries|SYNs)") / load.seconds, replies / load.seconds, replies, [])


def run(load, *command):
    """What the command tells: through a file, so that nobody has to read along meanwhile."""
    command = [*load.inside, "taskset", "-c", str(LOAD_CPU), *map(str, command)]
    with open(load.questions + ".told", "w+") as told:
        ran = subprocess.run(command, stdout=told, stderr=subprocess.STDOUT, timeout=load.seconds + 60)
        told.seek(0)
        text = told.read()
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}: {text[-2000:]}")
    return text
