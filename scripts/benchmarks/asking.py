"""Which serial a server answers with, and since when."""

import os
import socket
import struct
import time

from .rig import ZONE


def soa_query(ident):
    name = b"".join(bytes([len(l)]) + l.encode() for l in ZONE.rstrip(".").split(".")) + b"\0"
    return struct.pack(">HHHHHH", ident, 0, 1, 0, 0, 0) + name + struct.pack(">HH", 6, 1)


def serial_in(reply):
    """The serial of the SOA in the answer section, if there is one."""
    rcode, answers = reply[3] & 15, struct.unpack(">H", reply[6:8])[0]
    if rcode or not answers:
        return None
    at = behind_name(reply, behind_name(reply, 12) + 4)
    end = at + 10 + struct.unpack_from(">H", reply, at + 8)[0]
    return struct.unpack_from(">I", reply, end - 20)[0]


def behind_name(message, at):
    """Where what follows a name begins."""
    while 0 < message[at] < 192:
        at += 1 + message[at]
    return at + (2 if message[at] else 1)


class Asker:
    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(address)
        self.socket.settimeout(0.2)
        self.query = soa_query(os.getpid() & 0xFFFF)

    def serial(self):
        try:
            self.socket.send(self.query)
            return serial_in(self.socket.recv(4096))
        except OSError:
            return None


def first_seen(askers, serial, seconds):
    """When each of them answered with this serial first, all asked at the same time."""
    seen = [None] * len(askers)
    asked = [0.0] * len(askers)
    for asker in askers:
        asker.socket.setblocking(False)
    end = time.monotonic() + seconds
    while None in seen and time.monotonic() < end:
        for which, asker in enumerate(askers):
            if seen[which] is not None:
                continue
            try:
                if serial_in(asker.socket.recv(4096)) == serial:
                    seen[which] = time.monotonic()
                    continue
                asked[which] = 0.0
            except OSError:
                pass
            if time.monotonic() - asked[which] > 0.05:
                asked[which] = time.monotonic()
                asker.socket.send(asker.query)
    return seen


def wait_for(asker, serial, seconds):
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if asker.serial() == serial:
            return time.monotonic() - began
        time.sleep(0.002)
    raise SystemExit(f"no serial {serial} within {seconds} s")
