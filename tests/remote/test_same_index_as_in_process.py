"""The tests of the in-process indexes, on indexes at a node."""

from tests.search.conftest import papers, rng, vectors  # noqa: F401 - fixtures of theirs
from tests.search.test_bad_input import *  # noqa: F403
from tests.search.test_index import *  # noqa: F403

del test_reopening, test_read_only  # noqa: F821 - they open the volume's directory
del test_a_query_means_the_same_in_every_form  # noqa: F821 - it puts passages
