"""What the runs of configs/paper came to: kept numbers, tables and figures.

mlmc-ray compare configs/paper/fig4-small.yaml --parallel 2 --out RUNS
python -m benchmarks.paper keep RUNS --json benchmarks/results/paper/fig4-small.json
python -m benchmarks.paper report benchmarks/results/paper/fig4-small.json
"""
