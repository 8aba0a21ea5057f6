"""CPU at rest."""

import os
import shutil
import tempfile
import time

from .asking import Asker, wait_for
from .rig import hosts_zone, port, tell
from .servers import Server


def idle(options):
    for kind in options.servers:
        folder = tempfile.mkdtemp(prefix="backstop-bench-")
        zone_file = os.path.join(folder, "zone")
        hosts_zone(zone_file, 1000)
        to = ("127.0.0.1", port())
        server = Server(kind, os.path.join(folder, kind), to, zone_file)
        try:
            server.start()
            wait_for(Asker(to), 1, 60)
            time.sleep(2)
            before = sum(server.cpu())
            time.sleep(options.seconds)
            used = sum(server.cpu()) - before
            tell({"bench": "idle", "server": kind, "percent_of_a_core": round(100 * used / options.seconds, 3)})
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)
