"""What commands share that make many runs: comparisons, sweeps, scaling runs.

apart        runs in processes of their own
preload      what those processes have done before they begin
parallel     which runs may be made at the same time
progress     what is shown while they go on
fingerprint  what results were made with: one's own files, and versions
lock         one process at a time in a directory
"""
