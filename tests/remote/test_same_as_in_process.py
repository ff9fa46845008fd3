"""The tests of the in-process API, on a volume at a node."""

from tests.frontends.conftest import other_files  # noqa: F401 - a fixture of theirs
from tests.frontends.test_fileobject import *  # noqa: F403
from tests.frontends.test_local import *  # noqa: F403
