"""Fakes for the tests of people who use the library."""
