"""Many versions a second from a scripted primary: how far behind a secondary is."""

import os
import shutil
import socket
import struct
import tempfile
import threading
import time

from .asking import Asker, soa_query, wait_for
from .rig import port, tell
from .servers import Server


class Primary:
    """Has a new version whenever it is told to, and serves them by AXFR and IXFR over kept connections."""

    STEPS = 400  # versions in one message at the most

    def __init__(self, names):
        self.serial, self.asked, self.steps, self.names = 1, 0, 0, names
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self.listener.getsockname()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(self.address)
        self.question = soa_query(0)[12:-4]
        threading.Thread(target=self.datagrams, args=(udp,), daemon=True).start()
        threading.Thread(target=self.connections, daemon=True).start()

    def rr(self, label, rtype, data):
        owner = bytes([len(label)]) + label + b"\xc0\x0c" if label else b"\xc0\x0c"
        return owner + struct.pack(">HHIH", rtype, 1, 300, len(data)) + data

    def soa(self, serial):
        return self.rr(b"", 6, b"\2ns\xc0\x0c\5admin\xc0\x0c" + struct.pack(">5I", serial, 3600, 600, 604800, 300))

    def version(self, serial):
        return self.rr(b"newest", 1, struct.pack(">I", serial))

    def message(self, request, records):
        head = request[:2] + struct.pack(">5H", 0x8400, 1, len(records), 0, 0)
        octets = head + self.question + request[12 + len(self.question):][:4] + b"".join(records)
        return struct.pack(">H", len(octets)) + octets

    def whole(self, request, serial):
        records = [self.soa(serial), self.rr(b"", 2, b"\2ns\xc0\x0c"), self.rr(b"ns", 1, bytes([127, 0, 0, 1]))]
        records.append(self.version(serial))
        for i in range(self.names):
            records.append(self.rr(b"h%d" % i, 1, struct.pack(">I", 0x0A000000 + i)))
            if len(records) == 1500:
                yield self.message(request, records)
                records = []
        yield self.message(request, records + [self.soa(serial)])

    def changes(self, request, since):
        newest = self.serial
        self.asked, self.steps = self.asked + 1, self.steps + newest - since
        records = [self.soa(newest)]
        for old in range(since, newest):
            records += [self.soa(old), self.version(old), self.soa(old + 1), self.version(old + 1)]
            if len(records) >= 4 * self.STEPS:
                yield self.message(request, records)
                records = []
        yield self.message(request, records + ([self.soa(newest)] if newest != since else []))

    def notify(self):
        query = soa_query(7)
        return query[:2] + b"\x24\0\0\1\0\1" + query[8:] + self.soa(self.serial)

    def datagrams(self, udp):
        while True:
            request, peer = udp.recvfrom(4096)
            udp.sendto(self.message(request, [self.soa(self.serial)])[2:], peer)

    def connections(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.connection, args=(stream,), daemon=True).start()

    def connection(self, stream):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = stream.makefile("rb")
        try:
            while len(head := file.read(2)) == 2:
                request = file.read(struct.unpack(">H", head)[0])
                rtype = struct.unpack(">H", request[12 + len(self.question):][:2])[0]
                if rtype == 251:
                    at = request.index(b"\0\6\0\1", 12 + len(self.question) + 4) + 10
                    data = at + struct.unpack(">H", request[at - 2:at])[0]
                    messages = self.changes(request, struct.unpack(">I", request[data - 20:data - 16])[0])
                elif rtype == 252:
                    messages = self.whole(request, self.serial)
                else:
                    messages = [self.message(request, [self.soa(self.serial)])]
                for message in messages:
                    stream.sendall(message)
        except OSError:
            pass


def versions(options):
    names, folder, to = max(options.sizes), tempfile.mkdtemp(prefix="backstop-bench-"), ("127.0.0.1", port())
    primary = Primary(names)
    secondary = Server("backstop", os.path.join(folder, "secondary"), to, primary=primary.address)
    try:
        secondary.start()
        asker = Asker(to)
        wait_for(asker, 1, 300)
        time.sleep(2)
        told = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        before, began, lags = secondary.cpu(), time.monotonic(), []
        while (passed := time.monotonic() - began) < options.seconds:
            due = 1 + int(passed * options.versions)
            if due > primary.serial:
                primary.serial = due
                told.sendto(primary.notify(), to)
                if due % 10 == 0:
                    served = Asker(to).serial()
                    lags += [primary.serial - served] if served else []
            time.sleep(max(0.0, began + due / options.versions - time.monotonic()))
        told.sendto(primary.notify(), to)
        last = wait_for(asker, primary.serial, 10)
        used = [after - start for after, start in zip(secondary.cpu(), before)]
        lags.sort()
        tell({"bench": "versions", "names": names, "versions_s": round(primary.serial / options.seconds),
              "ixfrs_s": round(primary.asked / options.seconds),
              "versions_an_ixfr": round(primary.steps / primary.asked, 2),
              "lag_versions_median": lags[len(lags) // 2], "lag_versions_p99": lags[int(len(lags) * 0.99)],
              "last_after_ms": round(1000 * last, 1), "cpu_ms_a_version": round(1000 * sum(used) / primary.serial, 3)})
    finally:
        secondary.stop()
        shutil.rmtree(folder, ignore_errors=True)
