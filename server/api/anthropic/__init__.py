"""Anthropic's dialect: `schema` is what may be asked, `adapter` translates. Nothing else speaks it
but the envelope of errors (`thirdeye.server.api.http.error_envelope`), which must also speak before
a route is found.
"""
