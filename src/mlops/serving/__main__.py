"""`python -m mlops.serving BUNDLE`: the service with its own dependencies alone."""

from __future__ import annotations

import sys

from mlops.base.errors import Refused, UserError
from mlops.serving import server

if __name__ == "__main__":
    try:
        server.main(sys.argv[1:])
    except (UserError, Refused) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
