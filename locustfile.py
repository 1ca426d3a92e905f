"""Tickstorm under Locust: hands it the user classes of every kind (see model/user_kinds.py), attaches the harness."""

from loadtests import harness

globals().update(harness.user_classes())

harness.attach()
