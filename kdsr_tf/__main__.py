"""`python -m kdsr_tf` is `kdsr`."""

from kdsr_tf.cli.main import main

main()
