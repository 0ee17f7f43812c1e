"""Rounds a second and accuracy against seconds, on shaped links, against what people use today.

    python -m benchmarks.end_to_end tune --out DIR
    python -m benchmarks.end_to_end run --out DIR
    python -m benchmarks.end_to_end report --out DIR

Four nodes, each behind a link of its own, train one model: with this project, with the parameter
server of Ray's documentation (both have the server on a fifth node), and with torch's
DistributedDataParallel over gloo. All have the same shards, minibatches and starting point, and
plain SGD. ``plan`` says who trains what. The network is that of ``launch.lab``, which needs Linux
and root.
"""
