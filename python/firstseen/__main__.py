"""python -m firstseen."""

from firstseen.cli import main

main(prog_name="python -m firstseen")
