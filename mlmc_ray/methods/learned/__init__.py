"""Learned gradient compression: an autoencoder is trained on the gradients, then used on them.

Three phases, by rounds. *Dense*: gradients are sent as they are. *Training*: all workers send the
entries at the positions of the Top-k of one of them, the leader, and the server trains an
autoencoder on these. *Compressed*: the leader sends its code, and every worker the few entries in
which it differs most. In the last two phases a worker keeps what was not said as an error, and adds
it to its next gradient.

A round of these has two exchanges: the leader, another one each round, says the positions (and its
code), the server passes them on, and all workers answer.

References:
    Abrahamyan, Chen, Bekoulis and Deligiannis, 2021, arXiv:2103.08870 (the phases, the split into
    common code and innovation, and the two losses).
"""

from mlmc_ray.methods.learned.method import LearnedCompression

__all__ = ["LearnedCompression"]
