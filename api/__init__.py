"""Serving: the REST service, the worker and the command line. Importing this loads nothing heavy."""
