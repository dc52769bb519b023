"""`python -m tallyman`, the same as the command `tallyman`."""

from tallyman.cli import main

if __name__ == "__main__":
    main(prog_name="tallyman")
