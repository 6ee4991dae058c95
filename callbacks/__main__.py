"""`python -m callbacks` is the `callbacks` command."""

from callbacks.cli.main import main

if __name__ == "__main__":
    main(prog_name="callbacks")
