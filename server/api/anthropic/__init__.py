"""Anthropic's dialect: `schema` is what may be asked, `routes` turns it into a chat request, and
`events` turns chat's events into a message. Nothing else speaks it but the envelope of errors
(`thirdeye.server.api.http.error_envelope`), which must also speak before a route is found.
"""
