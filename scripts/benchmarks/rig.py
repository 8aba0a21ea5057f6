"""What every benchmark needs: the programs, the zones, and how figures are told."""

import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ZONE = "bench.example."
SERVER_CPU, LOAD_CPU = 0, 1
TICK = os.sysconf("SC_CLK_TCK")


def program(variable, *names):
    named = os.environ.get(variable)
    found = named or next((p for p in map(shutil.which, names) if p), None)
    if not found:
        for folder in ("/usr/sbin", "/usr/bin"):
            for name in names:
                if os.path.exists(os.path.join(folder, name)):
                    return os.path.join(folder, name)
    return found


BACKSTOP = program("BACKSTOP") or os.path.join(ROOT, "target/release/backstop")
PROGRAMS = {
    "backstop": BACKSTOP if os.path.exists(BACKSTOP) else None,
    "knot": program("KNOTD", "knotd"),
    "nsd": program("NSD", "nsd"),
    "bind": program("NAMED", "named"),
}
EXAMPLES = os.path.join(ROOT, "target/release/examples")
ECHOES = {"mmsg": os.path.join(EXAMPLES, "udp_echo"), "xdp": os.path.join(EXAMPLES, "xdp_echo")}


def machine(options):
    """Tells where the figures that follow come from."""
    with open("/proc/cpuinfo") as cpuinfo:
        model = re.search(r"model name\s*:\s*(.*)", cpuinfo.read())
    versions = {}
    for kind, flag in (("knot", "-V"), ("nsd", "-v"), ("bind", "-v")):
        if kind in options.servers:
            asked = subprocess.run([PROGRAMS[kind], flag], capture_output=True, text=True)
            versions[kind] = re.search(r"\d+\.[\d.]+", asked.stdout + asked.stderr).group().rstrip(".")
    tell({"bench": "machine", "cpu": model.group(1) if model else "?", "cores": os.cpu_count(),
          "linux": os.uname().release, "load_average": round(os.getloadavg()[0], 1), "versions": versions,
          "date": time.strftime("%Y-%m-%d"), "command": " ".join(["scripts/bench", *sys.argv[1:]]),
          "names": options.names, "seconds": options.seconds, "rounds": options.rounds})


def port():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def soa(serial):
    return f"{ZONE} 3600 IN SOA ns.{ZONE} admin.{ZONE} {serial} 3600 600 604800 300\n"


def hosts_zone(path, names):
    """So many names with an address each."""
    with open(path, "w") as out:
        out.write(soa(1) + f"{ZONE} 3600 IN NS ns.{ZONE}\nns.{ZONE} 3600 IN A 127.0.0.1\n")
        for i in range(names):
            out.write(f"h{i}.{ZONE} 300 IN A 10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}\n")


def delegations_zone(path, names, serial=1):
    """So many delegations with two NS and one glue address each: three records a name. The next serial has other
    addresses."""
    with open(path, "w") as out:
        out.write(soa(serial) + f"{ZONE} 3600 IN NS ns.{ZONE}\nns.{ZONE} 3600 IN A 127.0.0.1\n")
        for i in range(names):
            out.write(
                f"d{i}.{ZONE} 3600 IN NS ns1.d{i}.{ZONE}\nd{i}.{ZONE} 3600 IN NS ns2.hoster{i % 1000}.net.\n"
                f"ns1.d{i}.{ZONE} 3600 IN A {10 + serial % 2}.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}\n"
            )


def sign(path):
    """Signs a zone file, with NSEC3 as RFC 9276 wants it; gives the signed one's path."""
    folder = os.path.dirname(path)
    run = lambda *command: subprocess.run(command, check=True, cwd=folder, capture_output=True)
    for role in ([], ["-f", "KSK"]):
        run("dnssec-keygen", "-a", "ECDSAP256SHA256", *role, ZONE)
    run("dnssec-signzone", "-S", "-P", "-3", "-", "-H", "0", "-o", ZONE, "-f", path + ".signed", path)
    for key in glob.glob(os.path.join(folder, f"K{ZONE}*")):
        os.remove(key)
    return path + ".signed"


KEPT = []  # the file that the figures are kept in, if they are


def keep(path):
    """Keeps the figures of this run in a file, which it begins anew."""
    open(path, "w").close()
    KEPT[:] = [path]


def tell(row):
    line = json.dumps(row)
    print(line, flush=True)
    for path in KEPT:
        with open(path, "a") as kept:
            print(line, file=kept)


def told(paths):
    """The rows that files keep."""
    lines = [line for path in paths for line in open(path)]
    return [json.loads(line) for line in lines if line.startswith("{")]

