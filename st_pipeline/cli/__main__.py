"""`python -m st_pipeline.cli`: the command without its script."""

from st_pipeline.cli import main

main()
