"""The tests of the in-process indexes, on indexes at a node."""

from tests.search.conftest import papers, rng, vectors  # noqa: F401 - fixtures of theirs
from tests.search.test_bad_input import *  # noqa: F403
from tests.search.test_index import *  # noqa: F403

del test_reopening, test_read_only  # noqa: F821 - they open the volume's directory
del test_a_file_of_several_passages_is_one_hit  # noqa: F821 - it puts passages
