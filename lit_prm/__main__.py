"""`python -m lit_prm`: see `lit_prm.commands.main`."""

from lit_prm.commands.main import main

if __name__ == "__main__":
    main()
