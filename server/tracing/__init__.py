"""Requests as spans of OpenTelemetry, with the engine's steps as events; off unless configured."""
