"""Run a command that dies with the process which started it: `python bound.py PARENT COMMAND…`.

A test run that is killed can't stop its servers. On Linux the kernel does it: this process asks for SIGKILL at its
parent's death, then becomes the command. Done here and not in a `preexec_fn`, which isn't safe once there are threads.
The parent is, to the kernel, the thread that started us: start servers in threads that outlive them.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("The parent died before the server started.")
    os.execvp(command[0], command)


main()
