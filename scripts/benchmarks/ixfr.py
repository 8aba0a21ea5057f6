"""How long after its primary a secondary answers with a new serial."""

import os
import shutil
import statistics
import subprocess
import tempfile
import time

from .asking import Asker, Ear, first_seen, wait_for
from .rig import LOAD_CPU, ZONE, delegations_zone, port, tell
from .servers import Server


def ixfr(options):
    print("milliseconds from the moment the primary (Knot) answers with a new serial; both are polled in one loop;\n"
          "notified_ms: until its NOTIFY to one more secondary, the second, had come")
    for names in options.sizes:
        for kind in options.servers:
            row = ixfr_of(kind, names, options)
            tell({"bench": "ixfr", "server": kind, "names": names, **row})


def ixfr_of(kind, names, options):
    folder = tempfile.mkdtemp(prefix="backstop-bench-")
    # The primary is another machine in real life: its journal is not to wait for our disk.
    far = tempfile.mkdtemp(prefix="backstop-bench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    at, to, ear = ("127.0.0.1", port()), ("127.0.0.1", port()), Ear()
    zone_file = os.path.join(folder, "zone")
    delegations_zone(zone_file, names)
    primary = Server("knot", os.path.join(far, "primary"), at, zone_file, notify=[to, ear.socket.getsockname()])
    secondary = Server(kind, os.path.join(folder, "secondary"), to, primary=at)
    try:
        primary.start(LOAD_CPU)
        ask_primary, ask_secondary = Asker(at), Asker(to)
        wait_for(ask_primary, 1, 180)
        secondary.start()
        wait_for(ask_secondary, 1, 180)
        time.sleep(2)
        knotc = ["knotc", "-c", os.path.join(far, "primary", "knot.conf")]
        lags, notified = [], []
        for serial in range(2, 2 + options.changes):
            commands = f"zone-begin {ZONE}\nzone-set {ZONE} x{serial} 60 A 10.0.0.1\nzone-commit {ZONE}\nexit\n"
            # The change is made while both are being polled.
            change = subprocess.Popen(knotc, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, text=True)
            change.stdin.write(commands)
            change.stdin.close()
            ear.heard = None
            seen = first_seen((ask_primary, ask_secondary), serial, 20, ear)
            if None in seen:
                raise SystemExit(f"{kind} did not follow to serial {serial}")
            change.wait()
            lags.append(1000 * max(0.0, seen[1] - seen[0]))
            # Told after the secondary was, as soon as that has acknowledged.
            end = time.monotonic() + 1
            while ear.heard is None and time.monotonic() < end:
                ear.listen()
            if ear.heard:
                notified.append(1000 * max(0.0, ear.heard - seen[0]))
            time.sleep(options.pause)
        lags.sort()
        return {"median_ms": round(statistics.median(lags), 2), "least_ms": round(lags[0], 2),
                "p90_ms": round(lags[int(len(lags) * 0.9)], 2), "changes": len(lags),
                "notified_ms": round(statistics.median(notified), 2) if notified else None}
    finally:
        secondary.stop()
        primary.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(far, ignore_errors=True)
