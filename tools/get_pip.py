"""Put pip into a virtual environment that has none: what Python brings along, then the version asked for.

It stands in for get-pip.py where that cannot be downloaded, and takes the same arguments.
"""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
    # A process of its own, because ensurepip turns pip's settings off for its process and the children of that.
    subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
