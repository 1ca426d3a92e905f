"""Tickstorm. Importing it loads the extensions that the environment names, before any table of kinds is read."""

from loadtests.extensions import from_environment

from_environment()
