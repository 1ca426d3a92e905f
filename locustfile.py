"""Tickstorm under Locust: names the user classes and attaches the harness."""

from loadtests import harness
from loadtests.drive.client import WebSocketClient
from loadtests.drive.publisher import EventPublisher
from loadtests.drive.reader import DatabaseReader

__all__ = ["DatabaseReader", "EventPublisher", "WebSocketClient"]

harness.attach()
