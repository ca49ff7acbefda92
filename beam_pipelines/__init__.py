"""Beam jobs: prepare, encode, distill."""

import logging

# Without Google's client libraries, `import apache_beam` itself warns about BigQuery.
logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
