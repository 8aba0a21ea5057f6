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
    """The serial of the SOA that is the first record of the answer section, if it is."""
    rcode, answers = reply[3] & 15, struct.unpack(">H", reply[6:8])[0]
    if rcode or not answers:
        return None
    record = past_name(reply, past_name(reply, 12) + 4)
    if reply[record:record + 2] != b"\0\6":
        return None
    end = record + 10 + struct.unpack(">H", reply[record + 8:record + 10])[0]
    return struct.unpack(">I", reply[end - 20:end - 16])[0]


def past_name(message, at):
    while 0 < message[at] < 0xC0:
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


class Ear:
    """Whom a primary notifies as well, to learn when it did: Knot does so over TCP."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(8)
        self.socket.setblocking(False)
        self.heard = None

    def listen(self):
        """Acknowledges a NOTIFY, if one has come; when the first since the last look did is noted."""
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return
        self.heard = self.heard or time.monotonic()
        with connection:
            connection.settimeout(0.2)
            message = connection.recv(4096)
            connection.send(message[:4] + bytes([message[4] | 0x80]) + message[5:])


def first_seen(askers, serial, seconds, ear):
    """When each of them answered with this serial first, all asked at the same time."""
    seen = [None] * len(askers)
    asked = [0.0] * len(askers)
    for asker in askers:
        asker.socket.setblocking(False)
    end = time.monotonic() + seconds
    while None in seen and time.monotonic() < end:
        ear.listen()
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
