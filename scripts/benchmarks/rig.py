"""What every benchmark needs: the programs, the zones, and how figures are told."""

import json
import os
import shutil
import socket
import statistics


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


def tell(row):
    print(json.dumps(row), flush=True)


def spread(values):
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"
