"""Tickstorm under Locust: names the user classes and attaches the harness."""

from loadtests import harness
from loadtests.drive.consume.client import WebSocketClient
from loadtests.drive.publish.publisher import EventPublisher
from loadtests.drive.sql.reader import DatabaseReader

__all__ = ["DatabaseReader", "EventPublisher", "WebSocketClient"]

harness.attach()
