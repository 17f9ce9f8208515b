"""When and where: thin Prefect flows over the machinery in `mlops`."""

import os

# Prefect's library tells its maker what it is used for, unless it is told not to.
os.environ.setdefault("DO_NOT_TRACK", "1")
