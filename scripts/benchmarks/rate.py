"""Replies a second of one core, what each costs, and how long it takes: all contenders in one run.

A row is a way to ask: over what, for which zone. Its contenders take turns, round after round, each
alone on the same core, with the load on another; each load of a row is put on all of them.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from typing import NamedTuple

from .load import Load, dnsperf, kxdpgun, popular, questions
from .rig import ECHOES, LOAD_CPU, SERVER_CPU, ZONE, hosts_zone, port, sign, tell
from .servers import Server
from .summary import text

SIGNED_NAMES_MAX = 20000
STALLS_MAX = 10

PEERS = (("knot", ""), ("nsd", ""), ("bind", ""))
STREAMS = (("backstop", ""), *PEERS)
DATAGRAMS = (("backstop", "mmsg"), ("backstop", "uring"), *PEERS, ("echo", "mmsg"))
PAST_THE_KERNEL = (("backstop", "xdp"), ("knot", "xdp"), ("echo", "xdp"))


class Row(NamedTuple):
    """A way to ask."""

    what: str
    generator: callable  # dnsperf over loopback, kxdpgun over a veth pair
    tcp: bool = False
    signed: bool = False
    asked: callable = questions  # which names
    contenders: tuple = DATAGRAMS


ROWS = {
    "udp": Row("UDP, loopback", dnsperf),
    "udp-signed": Row("UDP, loopback, signed zone", dnsperf, signed=True),
    "tcp": Row("TCP, loopback, 20 connections", dnsperf, tcp=True, contenders=STREAMS),
    "tcp-signed": Row("TCP, loopback, 20 connections, signed zone", dnsperf, True, True, questions, STREAMS),
    "veth": Row("UDP, veth", kxdpgun),
    "veth-signed": Row("UDP, veth, signed zone", kxdpgun, signed=True),
    "popular": Row("UDP, veth, names by popularity", kxdpgun, asked=popular),
    "popular-signed": Row("UDP, veth, signed zone, names by popularity", kxdpgun, signed=True, asked=popular),
    "veth-tcp": Row("TCP, veth, a connection a query", kxdpgun, tcp=True, contenders=STREAMS),
    "xdp": Row("UDP, veth, AF_XDP", kxdpgun, contenders=PAST_THE_KERNEL),
}
WORDS = {name: row.what for name, row in ROWS.items()}


def rate(options):
    rows = {name: ROWS[name] for name in options.rows}
    over_veth = any(row.generator is kxdpgun for row in rows.values())
    if over_veth and (os.geteuid() or not shutil.which("kxdpgun")):
        raise SystemExit("rows over veth need root and kxdpgun (Debian: knot-dnsutils)")
    figures = []
    with contextlib.ExitStack() as stack:
        # Nothing of ours runs beside a server.
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, {LOAD_CPU})
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="backstop-bench-"))
        namespaces = stack.enter_context(veth()) if over_veth else ((), ())
        zones = {signed: zone_of(folder, options.names, signed) for signed in {row.signed for row in rows.values()}}
        for name, row in rows.items():
            zone, names = zones[row.signed]
            asked = os.path.join(folder, "questions")
            row.asked(asked, names, row.signed)
            for figure in row_of(row, folder, zone, asked, namespaces, options):
                figures.append({"bench": "rate", "row": name, **figure})
                tell(figures[-1])
    print(text(figures, WORDS))


def zone_of(folder, names, signed):
    """A zone's file, and how many names it has."""
    zone = os.path.join(folder, "signed" if signed else "plain")
    names = min(names, SIGNED_NAMES_MAX) if signed else names
    hosts_zone(zone, names)
    return sign(zone) if signed else zone, names


def row_of(row, folder, zone, asked, namespaces, options):
    """Rounds that alternate between the contenders, who take turns in going first."""
    to, (inside, outside) = ("198.18.7.1", 53), namespaces
    if row.generator is dnsperf:
        to, inside, outside = ("127.0.0.1", port()), (), ()
    load = Load(to, asked, options.seconds, None, row.tcp, row.signed, outside)
    there = [(kind, io) for kind, io in row.contenders
             if kind in options.servers or kind == "echo" and os.path.exists(ECHOES[io])]
    for round_ in range(options.rounds):
        first = round_ % len(there)
        for kind, io in there[first:] + there[:first]:
            server = Server(kind, os.path.join(folder, kind), to, zone, prefix=inside, io=io)
            with answering(server, outside):
                for figure in contender(row, server, load, options.rates):
                    yield {"round": round_, "server": "-".join(filter(None, (kind, io))), **figure}


def contender(row, server, load, rates):
    """The figures of one contender in one round."""
    yield {"load": "idle", **idle(server)}
    if row.generator is kxdpgun:
        # A connection is some eight packets.
        rates = [rate // 8 if row.tcp else rate for rate in rates]
        kxdpgun(load._replace(seconds=1, offered=rates[0]))
        for offered in rates:
            yield {"load": offered, **loaded(row, server, load._replace(offered=offered))}
    else:
        dnsperf(load._replace(seconds=1))
        most = loaded(row, server, load)
        yield {"load": "most", **most}
        yield {"load": "half", **loaded(row, server, load._replace(offered=most["replies_s"] // 2, each=True))}


def idle(server):
    # What a start has to do behind its first answer, such as to read a zone file anew.
    time.sleep(1)
    before = sum(server.cpu())
    time.sleep(0.5)
    return {"busy_percent": round(200 * (sum(server.cpu()) - before), 1)}


def loaded(row, server, load):
    """What came of a load, and what it cost the server."""
    for _ in range(STALLS_MAX):
        before, began = server.cpu(), time.monotonic()
        came = row.generator(load)
        if came:
            break
    else:
        raise SystemExit(f"{row.generator.__name__} brings nothing from {server.kind}: {server.log()}")
    user, system = (after - start for after, start in zip(server.cpu(), before))
    each = 1e6 / max(came.replies, 1)
    figure = {
        "offered_s": round(came.offered_s),
        "replies_s": round(came.replies_s),
        "user_us": round(user * each, 3),
        "system_us": round(system * each, 3),
        "busy_percent": round(100 * (user + system) / min(load.seconds, time.monotonic() - began)),
    }
    if came.latencies_us:
        for percent in (50, 90, 99, 99.9):
            latency = came.latencies_us[int((len(came.latencies_us) - 1) * percent / 100)]
            figure[f"p{percent}_us".replace(".", "")] = round(latency)
    return figure


@contextlib.contextmanager
def answering(server, outside):
    """The server on its core, from its first answer on."""
    ip, number = server.address
    probe = [*outside, "kdig", "+time=1", "+retry=0", "-p", str(number), f"@{ip}", ZONE, "SOA"]
    try:
        server.start(SERVER_CPU)
        deadline = time.monotonic() + 120
        # An echo says NOERROR, too.
        while b"status: NOERROR" not in subprocess.run(probe, capture_output=True).stdout:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{server.kind} does not answer: {server.log()}")
            time.sleep(0.1)
        yield
    finally:
        server.stop()
        # Knot leaves its program where it was.
        subprocess.run([*server.prefix, "ip", "link", "set", "veth-s", "xdp", "off"], capture_output=True)


@contextlib.contextmanager
def veth():
    """Two namespaces of this process alone, joined by a veth pair: what runs a command in each."""
    here, there = (f"bench-{role}-{os.getpid()}" for role in ("server", "load"))
    inside = {namespace: ("ip", "netns", "exec", namespace) for namespace in (here, there)}
    run = lambda *command: subprocess.run(command, check=True, capture_output=True)
    try:
        for namespace in (here, there):
            run("ip", "netns", "add", namespace)
        run("ip", "link", "add", "veth-s", "netns", here, "type", "veth", "peer", "name", "veth-l", "netns", there)
        for namespace, link, own, other in ((here, "veth-s", 1, 2), (there, "veth-l", 2, 1)):
            run("ip", "-n", namespace, "link", "set", link, "address", f"02:00:00:00:07:0{own}", "up")
            run("ip", "-n", namespace, "address", "add", f"198.18.7.{own}/24", "dev", link)
            # An interface that is taken over for a moment does not lose its neighbour.
            neighbour = [f"198.18.7.{other}", "lladdr", f"02:00:00:00:07:0{other}"]
            run("ip", "-n", namespace, "neigh", "add", *neighbour, "dev", link)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            offloads = [word for feature in ("tx", "rx", "gso", "tso", "gro") for word in (feature, "off")]
            run(*inside[namespace], "ethtool", "-K", link, *offloads)
        yield inside[here], inside[there]
    finally:
        for namespace in (here, there):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)
