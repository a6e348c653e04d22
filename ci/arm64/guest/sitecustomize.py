"""Read by the emulated interpreter as it starts: programs that it runs as ``sys.executable`` are emulated, too."""

import os
import sys

sys.executable = os.environ["FASTNN_GUEST_PYTHON"]
