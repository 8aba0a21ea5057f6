"""Many small zones of one primary: from empty until all are served, memory, restart while the primary is down."""

import os
import shutil
import socket
import struct
import tempfile
import time

from .asking import serial_in
from .rig import port, tell
from .servers import Server

WINDOW = 100  # questions in flight: they fit into a socket's buffer
EMPTY_S, RESTART_S = 400, 60


def soa_question(zone):
    return b"".join(bytes([len(label)]) + label.encode() for label in zone.split(".")) + struct.pack(">HH", 6, 1)


class Sweep:
    """Asks for the SOA of every zone until it is answered: those that are missing, a window at a time."""

    def __init__(self, address, zones):
        self.address, self.socket = address, None
        self.questions = [soa_question(zone) for zone in zones]
        self.begin()

    def begin(self):
        self.missing = list(range(len(self.questions)))

    def window(self):
        """Asks for the first of those that are missing. How many were answered?"""
        if self.socket is None:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.connect(self.address)
        asked = self.missing[:WINDOW]
        unanswered = dict(enumerate(asked))
        try:
            for ident, which in enumerate(asked):
                head = struct.pack(">HHHHHH", ident, 0, 1, 0, 0, 0)
                self.socket.send(head + self.questions[which])
            self.socket.settimeout(0.2)
            for _ in asked:
                reply = self.socket.recv(4096)
                if serial_in(reply) == 1 and self.questions[asked[int.from_bytes(reply[:2])]] in reply:
                    unanswered.pop(int.from_bytes(reply[:2]), None)
        except OSError:
            self.socket.close()
            self.socket = None
        self.missing = list(unanswered.values()) + self.missing[WINDOW:]
        return len(asked) - len(unanswered)

    def until_all(self, seconds):
        """Seconds until all were answered, or None."""
        began = time.monotonic()
        self.begin()
        while self.missing:
            if time.monotonic() - began > seconds:
                return None
            if self.window() < WINDOW / 2:
                # Those at the front are not there yet: others may be.
                self.missing = self.missing[WINDOW:] + self.missing[:WINDOW]
                time.sleep(0.02)
        return time.monotonic() - began


def nine_records(path):
    with open(path, "w") as out:
        out.write("@ 3600 IN SOA ns1 admin 1 86400 3600 604800 300\n@ 3600 IN NS ns1\n@ 3600 IN NS ns2\n"
                  "@ 3600 IN MX 10 mail\n@ 3600 IN A 192.0.2.1\nns1 3600 IN A 192.0.2.2\nns2 3600 IN A 192.0.2.3\n"
                  "mail 3600 IN A 192.0.2.4\nwww 3600 IN A 192.0.2.5\n")


def rounded(seconds):
    return None if seconds is None else round(seconds, 2)


def zones(options):
    folder = tempfile.mkdtemp(prefix="backstop-bench-")
    names = [f"z{i}.example." for i in range(options.zones)]
    at, zone_file = ("127.0.0.1", port()), os.path.join(folder, "zone")
    nine_records(zone_file)
    primary = Server("knot", os.path.join(folder, "primary"), at, zone_file, zones=names)
    try:
        for kind in options.servers:
            primary.start()
            if Sweep(at, names).until_all(120) is None:
                raise SystemExit("the primary does not serve all zones within 120 s")
            told = one(kind, os.path.join(folder, kind), at, names, primary)
            tell({"bench": "zones", "server": kind, "zones": options.zones, **told,
                  "load": round(os.getloadavg()[0], 1)})
    finally:
        primary.stop()
        shutil.rmtree(folder, ignore_errors=True)


def one(kind, folder, at, names, primary):
    to = ("127.0.0.1", port())
    secondary, sweep = Server(kind, folder, to, primary=at, zones=names), Sweep(to, names)
    try:
        secondary.start()
        empty, used = sweep.until_all(EMPTY_S), sum(secondary.cpu())
        served = len(names) - len(sweep.missing)
        time.sleep(3)
        memory = secondary.memory()
        secondary.stop()
        primary.stop()
        secondary.start()
        restart = sweep.until_all(RESTART_S)
        again = len(names) - len(sweep.missing)
        time.sleep(3)
        return {"empty_s": rounded(empty), "served": served, "cpu_s": rounded(used),
                "octets_a_zone": round(memory / len(names)), "restart_s": rounded(restart), "served_restarted": again,
                "octets_a_zone_restarted": round(secondary.memory() / len(names))}
    finally:
        secondary.stop()
