"""`python -m lit_prm`: see `lit_prm.cli`."""

from lit_prm.cli import main

if __name__ == "__main__":
    main()
