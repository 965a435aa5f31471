"""Sums over ranks are captured like kernels, if all ranks capture the same in the same order."""

from tests.fake_gpu.children.child import Child
from tests.fake_gpu.ranks import SIZES
from thirdeye.server.engine.run_ahead.cuda_graphs import make_buckets


def test_ranks_capture_the_same_in_one_order(child: Child) -> None:
    """Two sums a layer and the gathering of logits, in each graph, and nothing outside of one."""
    first, second = child.run("tests.fake_gpu.ranks")
    assert first == second
    assert len(first["captured"]) == 2 * len(make_buckets(SIZES.num_slots))
    assert first["captured"][0] == f"{SIZES.num_slots} rows, layers"
    graphs = [meeting[0] for meeting in first["meets"]]
    assert None not in graphs
    assert graphs == sorted(graphs)
    for graph in range(len(first["captured"])):
        kinds = [kind for number, kind, *_ in first["meets"] if number == graph]
        assert kinds == ["sum", "sum", "gather"]  # of the one layer there is
