"""Replies a second and CPU a reply of one core, over a veth pair with kxdpgun."""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from .rig import LOAD_CPU, ROOT, SERVER_CPU, ZONE, hosts_zone, spread, tell
from .servers import Server


def rate(options):
    if os.geteuid() != 0 or not shutil.which("kxdpgun"):
        raise SystemExit("rate needs root and kxdpgun (Debian: knot-dnsutils)")
    folder = tempfile.mkdtemp(prefix="backstop-bench-")
    zone_file = os.path.join(folder, "zone")
    hosts_zone(zone_file, options.names)
    queries = os.path.join(folder, "queries")
    with open(queries, "w") as out:
        step = 7919
        for i in range(min(options.names, 50000)):
            out.write(f"h{i * step % options.names}.{ZONE} A\n")
    here, there = "bench-server", "bench-load"
    ip = "198.18.7.1"
    contenders = [(k, "auto") for k in options.servers if k != "backstop"]
    if "backstop" in options.servers:
        contenders += [("backstop", "mmsg"), ("backstop", "uring")]
    if os.path.exists(options.echo or ""):
        contenders.append(("echo", ""))
    namespaces(here, there)
    results = {}
    try:
        for round_ in range(options.rounds):
            for kind, io in contenders:
                name = f"{kind}-{io}" if kind == "backstop" else kind
                row = rate_of(kind, io, folder, (ip, 53), zone_file, queries, here, there, options)
                results.setdefault(name, []).append(row)
                tell({"bench": "rate", "round": round_, "server": name, **row})
    finally:
        for namespace in (here, there):
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{'server':16} {'replies/s':>28} {'user us':>24} {'system us':>24}   (median, least-most)")
    for name, rows in results.items():
        cells = [spread([row[key] for row in rows]) for key in ("replies_s", "user_us", "system_us")]
        print(f"{name:16} {cells[0]:>28} {cells[1]:>24} {cells[2]:>24}")


def xdp(options):
    """One core each, one queue, rounds that alternate between the contenders at each rate."""
    if os.geteuid() != 0 or not shutil.which("kxdpgun"):
        raise SystemExit("xdp needs root and kxdpgun (Debian: knot-dnsutils)")
    folder = tempfile.mkdtemp(prefix="backstop-bench-")
    zone_file, queries = os.path.join(folder, "zone"), os.path.join(folder, "queries")
    hosts_zone(zone_file, options.names)
    with open(queries, "w") as out:
        for i in range(min(options.names, 50000)):
            out.write(f"h{i * 7919 % options.names}.{ZONE} A\n")
    echo = options.echo or os.path.join(ROOT, "target/release/examples/xdp_echo")
    contenders = [kind for kind in ("backstop", "knot") if kind in options.servers]
    if os.path.exists(echo):
        options.echo = echo
        contenders.append("echo")
    here, there = "bench-server", "bench-load"
    namespaces(here, there)
    results = {}
    try:
        for round_ in range(options.rounds):
            for offered in options.rates:
                # Who goes first has the colder machine: take turns.
                for kind in contenders[round_ % len(contenders):] + contenders[:round_ % len(contenders)]:
                    options.rate = offered
                    row = rate_of(kind, "xdp", folder, ("198.18.7.1", 53), zone_file, queries, here, there, options)
                    results.setdefault((offered, kind), []).append(row)
                    tell({"bench": "xdp", "round": round_, "server": kind, **row})
    finally:
        for namespace in (here, there):
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    median = lambda offered, kind, key: statistics.median(row[key] for row in results[offered, kind])
    print(f"\n{'offered':>8} {'server':9} {'replies/s':>28} {'user us':>22} {'system us':>22} {'idle %':>7} {'of knot':>8}"
          f" {'of echo':>8}   (median, least-most)")
    for (offered, kind), rows in results.items():
        cells = [spread([row[key] for row in rows]) for key in ("replies_s", "user_us", "system_us")]
        ratios = [f"{median(offered, kind, 'replies_s') / median(offered, other, 'replies_s'):8.2f}"
                  if (offered, other) in results else "       -" for other in ("knot", "echo")]
        print(f"{offered:>8} {kind:9} {cells[0]:>28} {cells[1]:>22} {cells[2]:>22} "
              f"{median(offered, kind, 'idle_percent'):7.1f} {ratios[0]} {ratios[1]}")


def namespaces(here, there):
    def run(*command):
        subprocess.run(command, check=True, capture_output=True)

    for namespace in (here, there):
        run("ip", "netns", "add", namespace)
    run("ip", "link", "add", "veth-s", "netns", here, "type", "veth", "peer", "name", "veth-l", "netns", there)
    for namespace, link, address in ((here, "veth-s", "198.18.7.1/24"), (there, "veth-l", "198.18.7.2/24")):
        run("ip", "-n", namespace, "address", "add", address, "dev", link)
        run("ip", "-n", namespace, "link", "set", link, "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        for feature in ("tx", "rx", "gso", "tso", "gro"):
            subprocess.run(["ip", "netns", "exec", namespace, "ethtool", "-K", link, feature, "off"], capture_output=True)
    subprocess.run(["ip", "netns", "exec", there, "ping", "-c1", "-W1", "198.18.7.1"], capture_output=True)


def rate_of(kind, io, folder, address, zone_file, queries, here, there, options):
    inside = ["ip", "netns", "exec", here]
    if kind == "echo":
        server = Server.__new__(Server)
        server.process = subprocess.Popen(
            inside + ["taskset", "-c", str(SERVER_CPU), options.echo] + (["veth-s"] if io == "xdp" else [])
            + [f"{address[0]}:{address[1]}"],
            start_new_session=True,
        )
        time.sleep(0.5)
    else:
        server = Server(kind, os.path.join(folder, f"{kind}-{io}"), address, zone_file, prefix=inside, io=io)
        server.start(SERVER_CPU)
        deadline = time.monotonic() + 60
        probe = ["ip", "netns", "exec", there, "kdig", "+short", "+time=1", "+retry=0", f"@{address[0]}", ZONE, "SOA"]
        while not subprocess.run(probe, capture_output=True).stdout.strip().endswith(b"300"):
            if time.monotonic() > deadline:
                raise SystemExit(f"{kind} does not answer; see {server.folder}")
            time.sleep(0.1)
    try:
        before = server.cpu()
        time.sleep(1)
        idle = sum(server.cpu()) - sum(before)
        before = server.cpu()
        gun = subprocess.run(
            ["ip", "netns", "exec", there, "taskset", "-c", str(LOAD_CPU), "kxdpgun", "-t", str(options.seconds),
             "-Q", str(options.rate), "-b", "32", "-i", queries, "-p", str(address[1]), address[0]],
            capture_output=True, text=True,
        )
        after = server.cpu()
        subprocess.run(["ip", "-n", there, "link", "set", "veth-l", "xdp", "off"], capture_output=True)
        replies = int(re.search(r"total replies:\s+(\d+)", gun.stdout + gun.stderr).group(1))
        sent = int(re.search(r"total queries:\s+(\d+)", gun.stdout + gun.stderr).group(1))
        each = 1e6 / max(replies, 1)
        return {
            "offered_s": round(sent / options.seconds),
            "replies_s": round(replies / options.seconds),
            "user_us": round((after[0] - before[0]) * each, 3),
            "system_us": round((after[1] - before[1]) * each, 3),
            "idle_percent": round(100 * idle, 1),
        }
    finally:
        server.stop()
        # Knot leaves its program where it was.
        subprocess.run(["ip", "-n", here, "link", "set", "veth-s", "xdp", "off"], capture_output=True)
