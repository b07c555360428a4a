"""What of a block is written into a qcow2 image."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.export.nbd_image import CLUSTER_BYTES, cluster_runs


@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 8 * CLUSTER_BYTES), st.integers(1, 9000)), max_size=6),
    st.integers(1, 8 * CLUSTER_BYTES),
)
def test_runs_are_whole_clusters_and_hold_all_data(
    clusters: int, marks: list[tuple[int, int]], size: int
) -> None:
    offset = clusters * CLUSTER_BYTES
    data = bytearray(size)
    for start, length in marks:
        data[start : start + length] = b"\xff" * len(data[start : start + length])
    runs = list(cluster_runs(offset, data))
    assert all(start % CLUSTER_BYTES == 0 for start, _ in runs)
    assert all(end % CLUSTER_BYTES == 0 or end == size for _, end in runs)
    assert all(before[1] < after[0] for before, after in pairwise(runs))
    inside = set()
    for start, end in runs:
        inside |= set(range(start // CLUSTER_BYTES, -(-end // CLUSTER_BYTES)))
    for cluster in range(-(-size // CLUSTER_BYTES)):
        part = data[cluster * CLUSTER_BYTES : (cluster + 1) * CLUSTER_BYTES]
        assert any(part) == (cluster in inside)


def test_a_run_in_the_middle_of_a_cluster_covers_it() -> None:
    data = bytearray(CLUSTER_BYTES)
    data[5000] = 1
    assert list(cluster_runs(100 * CLUSTER_BYTES, data)) == [(0, CLUSTER_BYTES)]
    assert list(cluster_runs(0, bytes(3 * CLUSTER_BYTES))) == []
