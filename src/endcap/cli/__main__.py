"""`python -m endcap.cli`, as dvc.yaml calls it."""

from endcap.cli import main

main()
