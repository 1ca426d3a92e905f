"""Locust patches the standard library before anything else of these tests holds on to ssl."""

import locust  # noqa: F401
