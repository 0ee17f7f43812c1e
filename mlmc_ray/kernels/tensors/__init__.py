"""The kernels as tensor operations, for vectors that the compiled loops cannot read.

Each gives the same as its compiled counterpart, bit for bit where nothing else is said.
"""
