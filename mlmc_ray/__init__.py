"""MLMC-compressed distributed training: compressors, estimators, methods, the wire, the ledger.

The library knows nothing of Ray; ``launch`` runs it, in one process or on a cluster.
"""

__version__ = "0.1.0"
