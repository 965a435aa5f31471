"""Anthropic's dialect, the whole adapter: `schema` is what may be asked, `routes` turns it into a
chat request, `shape` turns chat's events into Anthropic's message. Nothing else speaks it but the
envelope of errors (`server.api.envelope`), which must also speak before a route is found.
"""
