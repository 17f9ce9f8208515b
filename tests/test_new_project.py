"""A new project replaces `src/flights` and the `project:` line, and nothing else."""

import pytest

pytestmark = pytest.mark.parametrize("project", ["diabetes", "wine", "flights"])


def test_x(finished, project):
    print(finished(project).root)
