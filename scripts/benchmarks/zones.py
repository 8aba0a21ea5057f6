"""Many small zones of one primary: from empty until all are served, memory, restart while the primary is down, and
what looking after them costs when it is back."""

import json
import os
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from .rig import PROGRAMS, port, tell
from .servers import Server

WINDOW = 100  # questions in flight: they fit into a socket's buffer
SAMPLE = 200  # zones that are asked for until the first time that all may be served
EMPTY_S, RESTART_S = 1200, 240
# The most zones that Knot is the primary of: beyond that, it takes too much memory beside what is measured.
KNOT_MAX = 200000
LOOK_S = 20  # how long it is watched how primaries are asked


def soa_question(zone):
    return b"".join(bytes([len(label)]) + label.encode() for label in zone.split(".")) + struct.pack(">HH", 6, 1)


class Sweep:
    """Asks for the SOA of every zone until it is answered: those that are missing, a window at a time."""

    def __init__(self, address, zones):
        self.address, self.socket = address, None
        self.questions = [soa_question(zone) for zone in zones]
        self.begin()

    def begin(self, sample=None):
        every = range(len(self.questions))
        self.missing = list(every) if sample is None else random.sample(every, min(sample, len(every)))

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
                answered = reply[3] & 15 == 0 and reply[6:8] != b"\0\0"
                if answered and self.questions[asked[int.from_bytes(reply[:2])]] in reply:
                    unanswered.pop(int.from_bytes(reply[:2]), None)
        except OSError:
            self.socket.close()
            self.socket = None
        self.missing = list(unanswered.values()) + self.missing[WINDOW:]
        return len(asked) - len(unanswered)

    def until_all(self, seconds):
        """Seconds until all were served, or None. To ask for all takes a while as well: if each is answered when it is
        asked for the first time, all were served when the first of them was asked for."""
        began = time.monotonic()
        self.begin(SAMPLE)
        if not self.until_none_is_missing(began + seconds)[0]:
            self.begin()
            return None
        ready = time.monotonic() - began
        self.begin()
        all_served, missed = self.until_none_is_missing(began + seconds)
        return None if not all_served else time.monotonic() - began if missed else ready

    def until_none_is_missing(self, end):
        """Was that before `end`, and was there one that had to be asked for again?"""
        missed = False
        while self.missing:
            if time.monotonic() > end:
                return False, True
            asked = min(WINDOW, len(self.missing))
            answered = self.window()
            missed |= answered < asked
            if answered < asked / 2:
                # Those at the front are not there yet: others may be.
                self.missing = self.missing[WINDOW:] + self.missing[:WINDOW]
                time.sleep(0.02)
        return True, missed


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
    source = "knot" if options.zones <= KNOT_MAX else "backstop"
    primary = Server(source, os.path.join(folder, "primary"), at, zone_file, zones=names)
    try:
        for kind in options.servers:
            primary.start()
            if Sweep(at, names).until_all(EMPTY_S) is None:
                raise SystemExit(f"the primary does not serve all zones within {EMPTY_S} s")
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
        memory = octets_a_zone(secondary, names)
        secondary.stop()
        primary.stop()
        secondary.start()
        restart = sweep.until_all(RESTART_S)
        again, restart_used = len(names) - len(sweep.missing), sum(secondary.cpu())
        time.sleep(3)
        told = {"empty_s": rounded(empty), "served": served, "cpu_s": rounded(used), "octets_a_zone": memory,
                "restart_s": rounded(restart), "served_restarted": again, "restart_cpu_s": rounded(restart_used),
                "octets_a_zone_restarted": octets_a_zone(secondary, names)}
        return told | looking_after(secondary, primary) if kind == "backstop" else told
    finally:
        secondary.stop()


def octets_a_zone(server, names):
    anonymous, of_files, _ = server.resident()
    return round((anonymous + of_files) / len(names))


def looking_after(secondary, primary):
    """The primary is back, and the zones are as they were: how often it is asked, and what that costs."""
    primary.start()
    secondary.stop()
    secondary.start()
    Sweep(primary.address, primary.zones[-1:]).until_all(EMPTY_S)
    Sweep(secondary.address, secondary.zones[-1:]).until_all(RESTART_S)
    asked, used = probes(secondary), sum(secondary.cpu())
    time.sleep(LOOK_S)
    asked, used = probes(secondary) - asked, sum(secondary.cpu()) - used
    return {"soa_queries_a_second": round(asked / LOOK_S), "looking_cpu_percent": round(100 * used / LOOK_S, 1)}


def probes(server):
    """The SOA queries that it has asked of its primaries."""
    config = os.path.join(server.folder, "backstop.toml")
    command = [PROGRAMS["backstop"], "status", "--server", "--json", "--config", config]
    counted = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=server.folder).stdout)
    return counted["counted"]["probes"]
