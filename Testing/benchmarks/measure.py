"""Run a command and note its wall seconds and peak memory: REPORT LOG TIME_LIMIT_S COMMAND...

A small process of its own: a child's peak begins with what its parent held when it was started.
"""

import json
import resource
import signal
import subprocess
import sys
import threading
import time

report_file, log_file, limit_s = sys.argv[1:4]
begin = time.perf_counter()
with open(log_file, "wb") as log:
    child = subprocess.Popen(sys.argv[4:], stdout=log, stderr=subprocess.STDOUT)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    late = threading.Timer(float(limit_s), child.terminate)
    late.start()
    code = child.wait()
    late.cancel()
seconds = time.perf_counter() - begin
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, kilobytes elsewhere
with open(report_file, "w") as stream:
    json.dump(
        {
            "exit_code": code,
            "seconds": round(seconds, 2),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "peak_gb": round(usage.ru_maxrss * unit / 2**30, 3),
        },
        stream,
    )
