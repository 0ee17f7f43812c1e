"""A network of several nodes on one Linux machine, thrown away when a command has ended.

Every node is a network namespace with an address and a link of its own to one switch, so that the
counters of its interface see what a cable would carry. A Ray cluster can run on the nodes. The lab
has no way out, and the kernel removes all of it when the process that asked for it ends, however it
ends.

    plan        how many nodes, how fast their links are, and what runs on them
    outside     what the machine must offer, and the sealed namespaces
    sealed      runs inside: brings the lab up, runs the command, writes the report
    network     the nodes' namespaces, the switch, and the links
    ray_nodes   Ray on the nodes
    inside      for the command: counters, addresses, programs on other nodes

    python -m launch.lab run --nodes 5 --rate 100mbit -- mlmc-ray train config.yaml --engine ray
"""
