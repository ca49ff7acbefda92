"""Fitting the student: rates per group of variables, exact resume, callbacks."""
