"""Runs a script of this folder and leaves without taking the interpreter apart.

pyarrow's threads now and then abort a process that has done its work and is exiting ("terminate called without
an active exception", apache/arrow#34314, open). What a script says by failing still counts: an exception ends it
with 1 before it gets here.
"""

import os
import runpy
import sys

script = sys.argv[1]
sys.argv = sys.argv[1:]
runpy.run_path(script, run_name="__main__")
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
