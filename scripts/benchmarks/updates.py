"""A million random updates of a large zone from a scripted primary: what memory the zone takes then."""

import os
import random
import shutil
import socket
import struct
import tempfile
import time

from .asking import Asker, wait_for
from .rig import port, tell
from .servers import Server
from .versions import Primary

# Updates in one version, and how long the server is left alone before its memory is read.
AT_ONCE = 100
SETTLE_S = 10
# What an update may be: another record in a record's place, or also another delegation in a delegation's.
KINDS = {"records": 2, "records and delegations": 3}


class Delegations(Primary):
    """Delegations with two name servers and one glue address each, of which random ones change."""

    def __init__(self, names, kinds):
        self.kinds = kinds
        # Of twice as many names half are there.
        self.there, self.absent = list(range(names)), list(range(names, 2 * names))
        self.hosters = [i % 1000 for i in range(2 * names)]
        self.addresses = [0x0A000000 | i for i in range(2 * names)]
        self.random, self.diff = random.Random(1), []
        super().__init__(names)

    def delegation(self, i):
        label, glue = b"d%d" % i, b"\3ns1" + bytes([len(b"d%d" % i)]) + b"d%d" % i + b"\xc0\x0c"
        hoster = b"hoster%d" % self.hosters[i]
        other = b"\3ns2" + bytes([len(hoster)]) + hoster + b"\3net\0"
        return [self.rr(label, 2, glue), self.rr(label, 2, other),
                glue + struct.pack(">HHIHI", 1, 1, 300, 4, self.addresses[i])]

    def whole(self, request, serial):
        records = [self.soa(serial), self.rr(b"", 2, b"\2ns\xc0\x0c"), self.rr(b"ns", 1, bytes([127, 0, 0, 1]))]
        # As most primaries do: in canonical order.
        for i in sorted(self.there, key=str):
            records += self.delegation(i)
            if len(records) >= 600:
                yield self.message(request, records)
                records = []
        yield self.message(request, records + [self.soa(serial)])

    def change(self):
        """The next version: addresses and name servers replaced, delegations given up for other ones."""
        removed, added = [], []
        for at in self.random.sample(range(self.names), AT_ONCE):
            i, what = self.there[at], self.random.randrange(self.kinds)
            before = self.delegation(i)
            if what == 0:
                self.addresses[i] = self.random.randrange(1 << 24, 1 << 31)
            elif what == 1:
                self.hosters[i] = self.random.randrange(10000)
            else:
                other = self.random.randrange(self.names)
                self.there[at], self.absent[other] = self.absent[other], i
            after = self.delegation(self.there[at])
            removed += [record for record in before if record not in after]
            added += [record for record in after if record not in before]
        self.diff = [self.soa(self.serial)] + removed + [self.soa(self.serial + 1)] + added
        self.serial += 1

    def changes(self, request, since):
        self.asked += 1
        records = [self.soa(self.serial)] + (self.diff + [self.soa(self.serial)] if since != self.serial else [])
        for at in range(0, len(records), 600):
            yield self.message(request, records[at:at + 600])


def updates(options):
    for which, kinds in KINDS.items():
        tell({"bench": "updates", "of": which, "names": options.names, **measure(options, kinds)})


def measure(options, kinds):
    names, folder, to = options.names, tempfile.mkdtemp(prefix="backstop-bench-"), ("127.0.0.1", port())
    primary = Delegations(names, kinds)
    secondary = Server("backstop", os.path.join(folder, "secondary"), to, primary=primary.address)
    told = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def octets():
        time.sleep(SETTLE_S)
        anonymous, of_files, _ = secondary.resident()
        return round((anonymous + of_files) / (3 * names + 3), 1)

    try:
        secondary.start()
        wait_for(Asker(to), 1, 600)
        row = {"octets_a_record": octets()}
        began = time.monotonic()
        for _ in range(options.updates // AT_ONCE):
            primary.change()
            told.sendto(primary.notify(), to)
            wait_for(Asker(to), primary.serial, 60)
        row["updates"], row["updates_s"] = options.updates, round(options.updates / (time.monotonic() - began))
        row["octets_a_record_after"] = octets()
        secondary.stop()
        secondary.start()
        wait_for(Asker(to), primary.serial, 60)
        row["octets_a_record_restarted"] = octets()
        return row
    finally:
        secondary.stop()
        shutil.rmtree(folder, ignore_errors=True)
