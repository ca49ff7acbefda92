"""`python -m kdsr_tf` is `kdsr`."""

from kdsr_tf.cli.main import main

if __name__ == "__main__":  # a saved student may name this module, and importing it runs nothing
    main()
