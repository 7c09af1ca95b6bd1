"""``python -m gendyn``: the command line."""

from gendyn.cli import main

if __name__ == "__main__":
    main()
