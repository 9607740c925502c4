"""``python -m hear_axlstm``."""

from hear_axlstm.cli import main

main()
