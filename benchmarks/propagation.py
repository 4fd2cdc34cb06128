"""Dense or sparse: from which size and density on a sparse product is the faster one."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.figures import Result, best, table, told
from st_pipeline.types import DENSE_NODES, SPARSE_COST, Graph, Operator, _csr, is_dense

COLUMNS = 384  # 32 windows of 12 steps
SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048)
NEIGHBOURS = (2, 5, 10, 20, 50, 100)


def compare(num_nodes: int, neighbours: int) -> tuple[float, float, int]:
    """Seconds of a dense and of a sparse product, forward, one thread; and the number of edges."""
    random = np.random.default_rng(0)
    count = num_nodes * neighbours
    row, column = random.integers(0, num_nodes, (2, count))
    graph = Graph.from_edges(row, column, random.uniform(0.1, 1, count), num_nodes=num_nodes)
    dense = graph.dense()
    sparse = Operator(_csr(graph, graph.row, graph.column), dense)
    x = torch.randn(num_nodes, COLUMNS)
    return best(lambda: dense @ x, 15)[0], best(lambda: sparse.matrix @ x, 15)[0], graph.num_edges


def run() -> Result:
    torch.set_num_threads(1)
    rows: list[list[object]] = []
    wrong = lost = 0.0
    for num_nodes in SIZES:
        for neighbours in (one for one in NEIGHBOURS if one < num_nodes):
            dense, sparse, edges = compare(num_nodes, neighbours)
            chosen = is_dense(num_nodes, edges)
            loss = (dense if chosen else sparse) / min(dense, sparse)
            wrong += loss > 1.1
            lost = max(lost, loss)
            cost = num_nodes**2 / edges * sparse / dense
            rows.append([num_nodes, neighbours, 1e3 * dense, 1e3 * sparse, cost, "dense" if chosen else "sparse", loss])
        told(f"dense or sparse, {num_nodes} nodes")
    header = [
        "nodes",
        "edges a node",
        "dense, ms",
        "sparse, ms",
        "cells an edge costs",
        "chosen",
        "over the faster one",
    ]
    rule = (
        f"The rule: dense up to {DENSE_NODES} nodes, or where an edge has fewer than {SPARSE_COST} cells to itself. "
        f"In {wrong:.0f} of {len(rows)} cases it is over a tenth slower than the better choice, "
        f"at worst {lost:.2f} times.\n\n"
    )
    return Result("Dense or sparse products", text=rule + table(header, rows))


if __name__ == "__main__":
    print(run().to_json())
