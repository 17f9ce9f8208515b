"""`python -m mlops.serving BUNDLE`: the service alone, with what its own dependencies bring."""

from __future__ import annotations

import sys

from mlops.base.errors import MENDABLE, UserError
from mlops.serving import server

if __name__ == "__main__":
    try:
        server.main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MENDABLE)
    # The service has ended well: what uvicorn raises once more is the terminal's own signal.
    except KeyboardInterrupt:
        sys.exit(130)
