"""A local server and a client that speak TF Serving's wire protocol."""
